"""What happens in calls, for whoever watches: the gRPC service, the caller's web page, tests."""

import asyncio
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from enum import Enum

from services.agent.legs.base import LegKind
from services.agent.outbound.outcome import DialOutcome

WATCHER_BACKLOG = 1000  # events a slow watcher may lag behind before it is cut off
KEPT = 1000  # events that watchers who come back are still told


class CallState(Enum):
    """Where a call is in its life; the values are stored."""

    RINGING = "ringing"
    LIVE = "live"
    ENDED = "ended"


@dataclass(frozen=True)
class CallRecord:
    """A call as others see it. `from_` and `to` are personal data.

    Attributes:
        may_listen: operators may listen in; not stored.
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
    may_listen: bool = False

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
class Spoken:
    """What of one answer has been heard so far; each such event stands for those before it.

    Attributes:
        answer: counts the answers and announcements of a call, from 1 on; a turn may have several.
        text: all of it that was heard.
        done: nothing more of it will be heard.
        interrupted: because the caller spoke up.
    """

    turn: int
    answer: int
    text: str
    done: bool = False
    interrupted: bool = False


@dataclass(frozen=True)
class CallerCaption:
    """What the caller said in a turn, as a recogniser beside the call understood it; some time after the turn."""

    turn: int
    text: str


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


class TransferOutcome(Enum):
    """How far a transfer that an operator asked for has got."""

    STARTED = "started"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True)
class Transfer:
    """An operator transfers the call. `target` is personal data.

    Attributes:
        detail: why it failed.
    """

    target: str
    outcome: TransferOutcome
    detail: str = ""


@dataclass(frozen=True)
class Listening:
    """Somebody begins to listen in, or listens no more; `who` is the name of their key."""

    who: str
    on: bool


@dataclass(frozen=True)
class Stream:
    """How audio arrives at one end of a call.

    Attributes:
        packets: that came since the call began.
        lost: that did not.
        loss: share of packets lost lately, 0 to 1.
        jitter_s: interarrival jitter (RFC 3550 section 6.4.1), seconds.
        mos: estimated mean opinion score of late, 1 to 4.5.
    """

    packets: int
    lost: int
    loss: float
    jitter_s: float
    mos: float


@dataclass(frozen=True)
class Quality:
    """How the call's audio gets through, as far as anyone tells.

    Attributes:
        received: from the caller, as counted here.
        sent: to the caller, as counted there.
        round_trip_s: of a packet and the answer to it, seconds.
    """

    received: Stream | None
    sent: Stream | None
    round_trip_s: float | None


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
    CallRecord
    | Caption
    | Spoken
    | CallerCaption
    | TurnTimes
    | BargeIn
    | Dtmf
    | Transfer
    | Listening
    | Quality
    | Speaking
    | AnswerBegan
    | AnswerOver
    | ActionStarted
    | ActionDone
)
INTERNAL = (Speaking, AnswerBegan, AnswerOver)  # events that are for the call's own parts only


@dataclass(frozen=True)
class Happening:
    """An event with its call and its Unix time.

    Attributes:
        number: counts an agent's events; of those that are made up for a watcher, that of the newest one before.
    """

    call_id: str
    event: Event
    time: float = field(default_factory=time.time)
    number: int = 0


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
    """Hands each event to all watchers of one process, and remembers the latest. Publishing never waits.

    Args:
        epoch: tells the numbers of this process from those of others, which begin at 1 too.
    """

    def __init__(self, epoch: str = "") -> None:
        self.epoch = epoch or secrets.token_hex(4)
        self.last = 0  # number of the newest event
        self._watchers: set[Watcher] = set()
        self._kept: deque[Happening] = deque(maxlen=KEPT)

    @property
    def watched(self) -> bool:
        """Somebody watches: events that are made for watchers alone are worth making."""
        return bool(self._watchers)

    def publish(self, call_id: str, event: Event) -> None:
        """Tells all watchers."""
        self.last += 1
        happening = Happening(call_id, event, number=self.last)
        self._kept.append(happening)
        for watcher in tuple(self._watchers):
            watcher.offer(happening)

    def publisher(self, call_id: str) -> Callable[[Event], None]:
        """`publish` for one call."""
        return lambda event: self.publish(call_id, event)

    def place(self, happening: Happening) -> str:
        """Where a watcher is who has seen everything up to this event; see `since`."""
        return f"{self.epoch}-{happening.number}"

    def since(self, place: str) -> list[Happening] | None:
        """What happened after a place; None when that is not all here any more, or it is no place of this process."""
        epoch, _, number = place.partition("-")
        if epoch != self.epoch or not (number.isascii() and number.isdecimal()) or int(number) > self.last:
            return None
        missed = self.last - int(number)
        if missed > len(self._kept):
            return None
        return [one for one in self._kept if one.number > int(number)]

    def recent(self, call_id: str) -> list[Happening]:
        """What is still known of a call."""
        return [one for one in self._kept if one.call_id == call_id]

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
