"""What a call's far end looks like to the rest of the agent: audio and signalling, nothing about models.

A listener (SIP user agent, HTTP offer handler) makes a `Leg` for each new call and hands it to a `CallAcceptor`, which
either takes it over or raises `CallRefusedError`. From then on the call owns the leg: it answers it, builds a pipecat
pipeline `transport.input() -> ... -> transport.output()`, and hangs it up.
"""

import asyncio
from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:  # settings are read before pipecat is loaded, which takes long and greets
    from pipecat.transports.base_transport import BaseTransport

    from services.agent.media_quality import Measured

INPUT_RATE = 16_000  # hertz; what a leg delivers, whatever its codec
NO_AUDIO, CALLER_LOST, WORKER_DIED = "no audio", "the connection to the page was lost", "SIP worker died"
LOST_LEG = frozenset({NO_AUDIO, CALLER_LOST})  # reasons of `Leg.ended` that are the network's
BROKEN = frozenset({WORKER_DIED})  # and ours
PACKET_MS = 20  # duration of one outgoing packet


class LegKind(Enum):
    """How the caller reached us; the values are stored and shown."""

    SIP = "sip"
    WEBRTC = "webrtc"
    CARRIER = "carrier"


class LegError(Exception):
    """The far end refused or failed what was asked of it (a transfer, an answer to a call that is gone)."""


class UnsupportedByLegError(LegError):
    """This kind of leg cannot do what was asked, now or ever."""


class CallRefusedError(Exception):
    """A call that is not taken, before it was answered.

    Attributes:
        reason: for the log and the caller's signalling; no personal data.
        retry_after_s: when another try may succeed: SIP 486/503 and HTTP 503 with `Retry-After`.
    """

    def __init__(self, reason: str, retry_after_s: int = 5) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after_s = retry_after_s


class Leg(Protocol):
    """One call's far end, made while it rings.

    `transport.input()` pushes `InputAudioRawFrame` (16-bit mono PCM at `INPUT_RATE`, about 20 ms each) from `answer`
    until the leg ends, `InputDTMFFrame` for each key pressed, and `HoldFrame` when the call is held or resumed.
    `transport.output()` takes `OutputAudioRawFrame` packets of `PACKET_MS` at `output_rate`, already paced by the agent
    a few packets ahead of the clock (more for an `OwnQueue`): it plays them at once, keeps no queue of its own beyond
    that lead, and drops what it has not played yet at an `InterruptionFrame`.
    Messages for a screen (`OutputTransportMessageUrgentFrame`) are sent where the leg has a channel for them and
    ignored elsewhere.
    """

    @property
    def kind(self) -> LegKind:
        """How the caller reached us."""

    @property
    def from_(self) -> str:
        """Who calls: a SIP URI, or whatever the web client calls itself. Personal data: never in a log message."""

    @property
    def to(self) -> str:
        """Whom they called."""

    @property
    def transport(self) -> "BaseTransport":
        """The media, there once `answer` has returned; frames flow while its pipeline runs."""

    @property
    def output_rate(self) -> int:
        """Rate of the PCM that the output takes, hertz; settled when `answer` has returned."""

    @property
    def playout_delay_s(self) -> float:
        """Seconds from a packet's time to its being heard, as far as the far end tells; 0 where it does not."""

    @property
    def ended(self) -> "asyncio.Future[str]":
        """Resolves with the reason (static text: `caller hung up`, `no audio`) when either side ended the leg."""

    async def answer(self) -> None:
        """Takes the call; returns when media can flow.

        Raises:
            LegError: the caller gave up meanwhile, or media cannot be set up. `ended` is resolved then.
        """

    async def hang_up(self, reason: str) -> None:
        """Ends the leg and resolves `ended` with `reason`; before the answer it declines the call. Idempotent."""

    async def transfer(self, target: str) -> None:
        """Blind transfer to a SIP URI or number (RFC 3515 REFER).

        Raises:
            UnsupportedByLegError: not on this kind of leg.
            LegError: the far end refused.
        """

    async def send_dtmf(self, digits: str) -> None:
        """Sends keys `0-9*#A-D` to the far end (RFC 4733).

        Raises:
            UnsupportedByLegError: not on this kind of leg, or nothing negotiated for it.
        """


@runtime_checkable
class ReturningLeg(Protocol):
    """A leg whose far end may go away in mid-call and come back with an empty screen."""

    def on_return(self, callback: Callable[[], None]) -> None:
        """Has `callback` called each time it is back."""


@runtime_checkable
class DecliningLeg(Protocol):
    """A leg that can tell its caller when to try again."""

    async def decline(self, refusal: CallRefusedError) -> None:
        """Like `hang_up`, of a call that has not been answered."""


@runtime_checkable
class OwnQueue(Protocol):
    """What a leg may have besides: a queue of what it was given to play and has not put on the wire yet.

    Where it tells how much that is, what the caller heard goes by the wire's clock; elsewhere by ours.
    """

    @property
    def lead_s(self) -> float:
        """Seconds that may wait in it: for so long the agent may be held up before the voice breaks off."""

    def unsent_s(self) -> float:
        """Seconds of audio that wait; 0 where it cannot tell."""

    def drop_unsent(self) -> None:
        """Drops them at once; the packet that is on its way still goes out."""


@runtime_checkable
class MeasuredLeg(Protocol):
    """A leg that knows how its audio gets through."""

    async def measure(self) -> "Measured":
        """What is known now."""


class CallAcceptor(Protocol):
    """Takes new incoming legs."""

    async def __call__(self, leg: Leg) -> str:
        """Reserves everything that the call needs to speak, and starts it; returns its id.

        Returns while the leg still rings; the call itself answers it. The listener keeps `ended` honest meanwhile: a
        caller who gives up while this is awaited resolves it.

        Raises:
            CallRefusedError: no capacity or no model behind us: the listener declines the call and forgets the leg.
        """


class Dialler(Protocol):
    """A listener that can also place calls."""

    async def dial(self, target: str) -> Leg:
        """A leg that rings at `target`; its `answer` waits for the far end to pick up.

        Raises:
            LegError: the target is not a usable address, or the request cannot be sent.
        """
