"""What a caller hears, packet by packet, with the time at which each came."""

import asyncio
import time
from array import array
from dataclasses import dataclass, field
from typing import Literal

Codec = Literal["pcmu", "opus"]
CLOCK: dict[Codec, int] = {"pcmu": 8000, "opus": 48_000}  # of RTP timestamps (RFC 3551, RFC 7587)


@dataclass
class Ear:
    """One call's received packets in the order in which they came; times are monotonic seconds.

    Attributes:
        arrived, sequence, timestamp, payload: of each packet.
        loud_at: when packets with sound in them came.
    """

    codec: Codec
    arrived: "array[float]" = field(default_factory=lambda: array("d"))
    sequence: "array[int]" = field(default_factory=lambda: array("H"))
    timestamp: "array[int]" = field(default_factory=lambda: array("I"))
    payload: list[bytes] = field(default_factory=list)
    loud_at: "array[float]" = field(default_factory=lambda: array("d"))
    _sound: asyncio.Event = field(default_factory=asyncio.Event)

    def hear(self, at: float, sequence: int, timestamp: int, payload: bytes, loud: bool) -> None:
        """Takes a packet."""
        self.arrived.append(at)
        self.sequence.append(sequence)
        self.timestamp.append(timestamp)
        self.payload.append(payload)
        if loud:
            self.loud_at.append(at)
            self._sound.set()

    def loud_since(self, since: float) -> float | None:
        """When the first sound after a time came."""
        found = None
        for at in reversed(self.loud_at):
            if at <= since:
                break
            found = at
        return found

    async def hears(self, since: float, seconds: float) -> float:
        """When the first sound after a time is heard, waiting for it.

        Raises:
            TimeoutError: nothing so long.
        """
        async with asyncio.timeout(seconds):
            while (found := self.loud_since(since)) is None:
                self._sound.clear()
                await self._sound.wait()
        return found

    async def quiet(self, for_s: float, seconds: float) -> None:
        """Until nothing has been heard for so long.

        Raises:
            TimeoutError: the bot speaks on and on.
        """
        async with asyncio.timeout(seconds):
            while True:
                left_s = self.quiet_at(for_s) - time.monotonic()
                if left_s <= 0:
                    return
                await asyncio.sleep(left_s + 0.001)

    def quiet_at(self, for_s: float) -> float:
        """When it will have been quiet for so long, if nothing more is heard."""
        return self.loud_at[-1] + for_s if self.loud_at else 0.0
