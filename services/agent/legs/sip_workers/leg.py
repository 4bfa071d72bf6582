"""A phone call in a worker process, as the agent's `Leg`."""

import asyncio
import contextlib
from collections import deque
from typing import Protocol

from services.agent import media_quality
from services.agent.legs.base import INPUT_RATE, CallRefusedError, LegError, LegKind
from services.agent.legs.sip_media import lead_s
from services.agent.legs.sip_transport import SipTransport
from services.agent.legs.sip_workers.messages import (
    Answer,
    Ask,
    Decline,
    Flush,
    HangUp,
    Hold,
    Measured,
    Message,
    Play,
    Received,
    Reply,
    SendDtmf,
    Transfer,
)

UNREAD_BYTES = 2 * 2 * INPUT_RATE  # two seconds; older audio is no conversation any more


class Worker(Protocol):
    """The process that has the call."""

    async def ask(self, what: Ask) -> Reply:
        """Has something done; raises LegError when it fails or the worker dies."""

    def tell(self, message: Message) -> bool:
        """Sends without an answer; False when the worker is gone or takes nothing."""


class RemoteMedia:
    """PCM and keys of one call; see `Line`."""

    def __init__(self, number: int, worker: Worker) -> None:
        self._number = number
        self._worker = worker
        self._unread = bytearray()
        self._arrived = asyncio.Event()
        self.keys: deque[str] = deque()
        self.output_rate = 0  # hertz; 0 before the answer
        self.held = False
        self._over = False

    def heard(self, pcm: bytes) -> None:
        """Audio came from the far end. What nobody reads for seconds is dropped, oldest first."""
        self._unread += pcm
        del self._unread[:-UNREAD_BYTES]
        self._arrived.set()

    def pressed(self, digit: str) -> None:
        """A key was pressed at the far end."""
        self.keys.append(digit)
        self._arrived.set()

    def hold(self, on: bool) -> None:
        """One side holds the call, or it is resumed."""
        self.held = on
        self._arrived.set()

    def read(self) -> bytes:
        """All that arrived since the last call."""
        pcm = bytes(self._unread)
        self._unread.clear()
        return pcm

    async def arrival(self) -> None:
        """Waits for audio, a key, a hold or its end."""
        await self._arrived.wait()
        self._arrived.clear()

    def write(self, pcm: bytes, rate: int) -> bool:
        """Has a packet sent; False when the call has no media (any more) or the worker takes nothing."""
        return bool(self.output_rate) and not self._over and self._worker.tell(Play(self._number, pcm, rate))

    def flush(self) -> None:
        """Has the worker drop what is not on the wire yet."""
        if not self._over:
            self._worker.tell(Flush(self._number))

    def close(self) -> None:
        """The call is over: nothing is sent any more."""
        self._over = True


class RemoteSipLeg:
    """One phone call; see `Leg`."""

    kind = LegKind.SIP
    playout_delay_s = 0.0

    def __init__(self, number: int, from_: str, to: str, worker: Worker) -> None:
        self._number = number
        self._worker = worker
        self.from_ = from_
        self.to = to
        self.media = RemoteMedia(number, worker)
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._transport: SipTransport | None = None
        self._measured = media_quality.Measured()

    @property
    def transport(self) -> SipTransport:
        """The media as a pipecat transport."""
        if self._transport is None:
            self._transport = SipTransport(self.media)
        return self._transport

    @property
    def output_rate(self) -> int:
        """The codec's rate, hertz; 0 before the answer."""
        return self.media.output_rate

    @property
    def lead_s(self) -> float:
        """See `OwnQueue`."""
        return lead_s(self.output_rate)

    def unsent_s(self) -> float:
        """See `OwnQueue`. The worker has the queue, and does not tell: none."""
        return 0.0

    def drop_unsent(self) -> None:
        """See `OwnQueue`."""
        self.media.flush()

    async def answer(self) -> None:
        """Takes an incoming call, or waits until a placed one is taken; returns when media flows.

        Raises:
            LegError: the far end gave up or refused, media did not come up, or the worker died.
        """
        if self.ended.done():
            raise LegError(self.ended.result())
        self.media.output_rate = (await self._worker.ask(Answer(self._number))).output_rate

    async def hang_up(self, reason: str) -> None:
        """Ends the call, or declines it when it still rings. Idempotent."""
        if self.ended.done():
            return
        self.end(reason)
        with contextlib.suppress(LegError):  # the worker died: nobody is left who could send a BYE
            await self._worker.ask(HangUp(self._number, reason))

    async def decline(self, refusal: CallRefusedError) -> None:
        """See `SipLeg.decline`."""
        if self.ended.done():
            return
        self.end(refusal.reason)
        with contextlib.suppress(LegError):
            await self._worker.ask(Decline(self._number, refusal.reason, refusal.retry_after_s))

    @property
    def held(self) -> bool:
        """One side holds the call: nothing is heard or said until it is resumed."""
        return self.media.held

    async def hold(self) -> None:
        """Holds the call. Idempotent.

        Raises:
            LegError: the call is not up, or another re-INVITE is under way.
        """
        await self._worker.ask(Hold(self._number, True))

    async def resume(self) -> None:
        """Ends our hold. Idempotent.

        Raises:
            LegError: the call is not up, or another re-INVITE is under way.
        """
        await self._worker.ask(Hold(self._number, False))

    async def transfer(self, target: str) -> None:
        """Blind transfer (RFC 3515). The call ends when it worked.

        Raises:
            LegError: not a usable target, the call is not up, or the far end refused.
        """
        await self._worker.ask(Transfer(self._number, target))

    async def send_dtmf(self, digits: str) -> None:
        """Sends keys.

        Raises:
            LegError: not a key, or the call is over.
        """
        await self._worker.ask(SendDtmf(self._number, digits))

    async def measure(self) -> media_quality.Measured:
        """See `MeasuredLeg`: as of the far end's last RTCP report."""
        return self._measured

    def measured(self, message: Measured) -> None:
        """The far end has reported."""
        received, sent = _reception(message.received), _reception(message.sent)
        self._measured = media_quality.Measured(received, sent, message.round_trip_s)

    def end(self, reason: str) -> None:
        """The call is over."""
        self.media.close()
        if not self.ended.done():
            self.ended.set_result(reason)


def _reception(heard: Received) -> media_quality.Reception:
    return media_quality.Reception(heard.packets, heard.lost, heard.jitter_s, heard.delay_s)
