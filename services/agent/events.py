"""What happens in calls, for whoever watches: the gRPC service, the caller's web page, tests."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from enum import Enum

from services.agent.legs.base import LegKind
from services.agent.outbound.outcome import DialOutcome

WATCHER_BACKLOG = 1000  # events a slow watcher may lag behind before it is cut off


class CallState(Enum):
    """Where a call is in its life; the values are stored."""

    RINGING = "ringing"
    LIVE = "live"
    ENDED = "ended"


@dataclass(frozen=True)
class CallRecord:
    """A call as others see it. `from_` and `to` are personal data.

    Attributes:
        placed: by us; `outcome` and `sip_status` (final response that refused it, else 0) belong to such calls only.
    """

    call_id: str
    leg: LegKind
    state: CallState
    from_: str
    to: str
    persona: str
    persona_version: int
    started: float  # Unix time
    end_reason: str = ""
    placed: bool = False
    outcome: DialOutcome = DialOutcome.NONE
    sip_status: int = 0

    def in_state(self, state: CallState, reason: str = "") -> "CallRecord":
        """The same call, further on."""
        return replace(self, state=state, end_reason=reason)


@dataclass(frozen=True)
class Caption:
    """A piece of the bot's text as it is generated."""

    turn: int
    text: str
    is_final: bool


@dataclass(frozen=True)
class TurnTimes:
    """One turn's waterfall: milliseconds from the caller's end of speech, by stage."""

    turn: int
    stages: dict[str, float]


@dataclass(frozen=True)
class BargeIn:
    """The caller interrupted the bot."""

    turn: int
    tokens_heard: int


@dataclass(frozen=True)
class Dtmf:
    """The caller pressed a key."""

    digit: str


@dataclass(frozen=True)
class Speaking:
    """Who is audible now changed; for a screen only."""

    who: str  # `caller` or `bot`
    on: bool


@dataclass(frozen=True)
class AnswerBegan:
    """The bot begins an answer, or an announcement (greeting, apology, a text that it was told to say); internal."""

    turn: int
    announcement: bool


@dataclass(frozen=True)
class AnswerOver:
    """An answer or announcement is over: complete and heard to its end, or stopped; internal."""

    turn: int
    heard: bool


class ActionOutcome(Enum):
    """What became of an action."""

    DONE = "done"
    FAILED = "failed"
    TIMED_OUT = "timed out"
    UNSUPPORTED = "unsupported"  # not on this kind of leg, or no target is set up
    CANCELLED = "cancelled"  # the caller spoke up before its moment came, or the call ended


@dataclass(frozen=True)
class ActionStarted:
    """An action of the persona is carried out; `kind` is that of the persona's file."""

    name: str
    kind: str


@dataclass(frozen=True)
class ActionDone:
    """An action is over; one that was cancelled before its moment has not started."""

    name: str
    kind: str
    outcome: ActionOutcome


Event = (
    CallRecord | Caption | TurnTimes | BargeIn | Dtmf | Speaking | AnswerBegan | AnswerOver | ActionStarted | ActionDone
)
INTERNAL = (Speaking, AnswerBegan, AnswerOver)  # events that are for the call's own parts only


@dataclass(frozen=True)
class Happening:
    """An event with its call and its Unix time."""

    call_id: str
    event: Event
    time: float = field(default_factory=time.time)


class Watcher:
    """A subscription; iterate it. It ends when cut off for lagging or closed."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[Happening | None] = asyncio.Queue()
        self.lagged = False
        self._closed = False

    def offer(self, happening: Happening) -> None:
        """Queues it, unless the watcher lags too far behind."""
        if self._closed:
            return
        if self._queue.qsize() >= WATCHER_BACKLOG:
            self.lagged = True
            self.close()
            return
        self._queue.put_nowait(happening)

    def close(self) -> None:
        """Ends the iteration after what is queued."""
        if not self._closed:
            self._closed = True
            self._queue.put_nowait(None)

    def __aiter__(self) -> "Watcher":
        return self

    async def __anext__(self) -> Happening:
        happening = await self._queue.get()
        if happening is None:
            raise StopAsyncIteration
        return happening


class EventBus:
    """Hands each event to all watchers of one process. Publishing never waits."""

    def __init__(self) -> None:
        self._watchers: set[Watcher] = set()

    def publish(self, call_id: str, event: Event) -> None:
        """Tells all watchers."""
        happening = Happening(call_id, event)
        for watcher in tuple(self._watchers):
            watcher.offer(happening)

    def publisher(self, call_id: str) -> Callable[[Event], None]:
        """`publish` for one call."""
        return lambda event: self.publish(call_id, event)

    def close(self) -> None:
        """Ends all watchers."""
        for watcher in tuple(self._watchers):
            watcher.close()

    @contextmanager
    def watch(self) -> Iterator[Watcher]:
        """Events from now on."""
        watcher = Watcher()
        self._watchers.add(watcher)
        try:
            yield watcher
        finally:
            self._watchers.discard(watcher)
            watcher.close()
