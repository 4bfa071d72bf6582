"""What the agent and a SIP worker tell each other.

The agent asks (`Request`), and the worker answers each once (`Reply`); all else is told without an answer. Calls are
numbered by who begins them: the worker numbers those that come in from 1 up, the agent those it places from -1 down.
"""

from typing import Literal

import msgspec


class Message(msgspec.Struct, frozen=True, tag=True):
    """Base of all messages; on the wire each carries the name of its class."""


class Answer(Message, frozen=True):
    """Take an incoming call, or wait until a placed one is taken; see `Leg.answer`. The reply has the rate."""

    call: int


class HangUp(Message, frozen=True):
    """End a call; see `Leg.hang_up`."""

    call: int
    reason: str


class Decline(Message, frozen=True):
    """End a call that rings; see `DecliningLeg.decline`."""

    call: int
    reason: str
    retry_after_s: int


class Transfer(Message, frozen=True):
    """Transfer a call; see `Leg.transfer`."""

    call: int
    target: str


class SendDtmf(Message, frozen=True):
    """Press keys; see `Leg.send_dtmf`."""

    call: int
    digits: str


class Hold(Message, frozen=True):
    """Hold a call, or resume it."""

    call: int
    on: bool


class Dial(Message, frozen=True):
    """Place a call, which is to have this number; see `Dialler.dial`."""

    call: int
    target: str


class Withdraw(Message, frozen=True):
    """Take registrations back; see `SipEndpoint.withdraw`."""


class Ping(Message, frozen=True):
    """Nothing to do; the reply shows that the worker lives, and with how many tasks."""


class Request(Message, frozen=True):
    """Something to be done, and answered by a `Reply` with the same number."""

    number: int
    what: Answer | HangUp | Decline | Transfer | SendDtmf | Hold | Dial | Withdraw | Ping


class Start(Message, frozen=True):
    """The first message to a worker.

    Attributes:
        settings: its `SipSettings`, pickled: whatever they hold reaches the worker as it is.
        log_level: of our lines.
        personal_data: is logged, in marked fields.
        log_format: of log lines.
    """

    settings: bytes
    log_level: int
    personal_data: bool = False
    log_format: Literal["text", "json"] = "text"


class Verdict(Message, frozen=True):
    """An incoming call is taken, or refused for a reason."""

    call: int
    refusal: str = ""
    retry_after_s: int = 0


class Play(Message, frozen=True):
    """16-bit mono PCM of `rate` hertz to send, after what is queued."""

    call: int
    pcm: bytes
    rate: int


class Flush(Message, frozen=True):
    """Drop what is queued."""

    call: int


class Ready(Message, frozen=True):
    """The worker listens."""

    port: int


class Failed(Message, frozen=True):
    """The worker cannot listen, and ends."""

    reason: str


class Reply(Message, frozen=True):
    """What became of a request.

    Attributes:
        error: why it failed; empty when it was done.
        unsupported: it fails always (`UnsupportedByLegError`).
        output_rate: hertz, after `Answer`.
        from_: our own URI in the call, after `Dial`.
        to: the URI that is called, after `Dial`.
        tasks: that the worker's event loop runs, after `Ping`; few when it has no calls.
    """

    number: int
    error: str = ""
    unsupported: bool = False
    output_rate: int = 0
    from_: str = ""
    to: str = ""
    tasks: int = 0


class Incoming(Message, frozen=True):
    """A call rings and wants a `Verdict`."""

    call: int
    from_: str
    to: str


class Heard(Message, frozen=True):
    """16-bit mono PCM at `INPUT_RATE` from the far end."""

    call: int
    pcm: bytes


class Key(Message, frozen=True):
    """The far end pressed a key."""

    call: int
    digit: str


class Held(Message, frozen=True):
    """A call is held by one side, or resumed."""

    call: int
    on: bool


class Ended(Message, frozen=True):
    """A call is over, whoever ended it; nothing more is said about it."""

    call: int
    reason: str


class Received(Message, frozen=True):
    """A call is over: how its audio came in; see `Reception`."""

    packets: int
    lost: int
    jitter_s: float
    delay_s: float


class Measured(Message, frozen=True):
    """How a call's audio gets through, now and then in its course; see `media_quality.Measured`.

    Attributes:
        received: by us.
        sent: received by the far end.
    """

    call: int
    received: Received
    sent: Received
    round_trip_s: float | None


Ask = Answer | HangUp | Decline | Transfer | SendDtmf | Hold | Dial | Withdraw | Ping
ToWorker = Start | Request | Verdict | Play | Flush
ToAgent = Ready | Failed | Reply | Incoming | Heard | Key | Held | Ended | Received | Measured
