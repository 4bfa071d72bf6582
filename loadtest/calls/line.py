"""A call as its caller sees it, over whatever it goes."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Protocol

from loadtest.calls.ear import Ear

PACKET_S = 0.02


class RefusedError(Exception):
    """The system says that it does not take the call; the message holds its status."""


class FaultError(Exception):
    """The system did what it must not; the message says what, without anything personal."""


class NetworkError(Exception):
    """The system could not be reached, or the connection to it was lost."""


@dataclass
class Signalling:
    """How long signalling took, seconds; None: it did not come to that.

    Attributes:
        first_s: from INVITE to the first response beyond 100, or from offer to answer.
        answer_s: from INVITE to 200, or from offer to a connection that carries audio.
        bye_s: from BYE to its 200, or from the goodbye to its confirmation.
        resent: requests that were sent again because nothing came back (RFC 3261 section 17.1).
    """

    first_s: float | None = None
    answer_s: float | None = None
    bye_s: float | None = None
    resent: int = 0


@dataclass
class Losses:
    """Packets that are dropped on purpose, the same for all calls of a run.

    Attributes:
        to_caller, to_bot: shares.
    """

    chance: Random
    to_caller: float = 0.0
    to_bot: float = 0.0

    def caller_misses(self) -> bool:
        """Whether a packet does not reach the caller."""
        return bool(self.to_caller) and self.chance.random() < self.to_caller

    def bot_misses(self) -> bool:
        """Whether a packet does not reach the bot."""
        return bool(self.to_bot) and self.chance.random() < self.to_bot


@dataclass
class Mouth:
    """What a caller says: packets one after another on a 20 ms clock, silence in between.

    Attributes:
        first_at, last_at: when the first and the last packet of the latest words went out, monotonic; 0: none did.
        late_s: by how much each packet missed its time.
    """

    clock: Callable[[], float] = time.monotonic
    first_at: float = 0.0
    last_at: float = 0.0
    late_s: list[float] = field(default_factory=list)
    _to_say: list[bytes] = field(default_factory=list)
    _said: asyncio.Event = field(default_factory=asyncio.Event)

    def say(self, packets: tuple[bytes, ...]) -> None:
        """Begins with the next packet."""
        self._to_say = list(reversed(packets))
        self.first_at = self.last_at = 0.0
        self._said.clear()

    def next(self, due: float) -> bytes | None:
        """The packet whose time has come; None: silence."""
        now = self.clock()
        self.late_s.append(max(0.0, now - due))
        if not self._to_say:
            return None
        packet = self._to_say.pop()
        self.first_at = self.first_at or now
        if not self._to_say:
            self.last_at = now
            self._said.set()
        return packet

    async def said(self) -> float:
        """When the last packet of what `say` was given went out."""
        await self._said.wait()
        return self.last_at


class Line(Protocol):
    """One call, made and spoken to in this order; every method may raise `FaultError` or `NetworkError`."""

    ear: Ear
    mouth: Mouth
    signalling: Signalling
    ended: "asyncio.Future[str]"  # done when the far end ends the call, with how

    async def call(self) -> float:
        """Places the call; returns when it was answered.

        Raises:
            RefusedError: it is not taken.
        """

    def say(self, question: str) -> None:
        """Speaks a question by its name."""

    async def hold(self) -> None:
        """Puts the bot on hold."""

    async def resume(self) -> None:
        """Takes it back."""

    async def press(self, keys: str) -> None:
        """Presses keys, one after another."""

    async def hang_up(self) -> None:
        """Ends the call, ringing or answered, and waits until the far end has confirmed."""

    async def close(self) -> None:
        """Frees what the call holds, whatever state it is in; says nothing to the far end."""
