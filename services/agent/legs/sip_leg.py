"""One phone call over SIP as a `Leg`."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

from baresip import BaresipError, Call, CallState, CallStats, DigitEvent, Event, StackEvent

from services.agent.legs.base import NO_AUDIO, CallRefusedError, LegError, LegKind
from services.agent.legs.sip_media import SipMedia, lead_s
from services.agent.legs.sip_parties import NUMBER, SIP_URI, host_of
from services.agent.legs.sip_settings import UNAVAILABLE, SipSettings
from services.agent.legs.sip_transport import SipTransport
from services.agent.media_quality import Measured, Reception

Refuse = Callable[[str, int, str, int], Awaitable[bool]]

ANSWER_TIMEOUT_S = 10.0  # from our 200 to the caller's ACK (RFC 3261 gives up after 64 * T1 = 32 s)
MEDIA_TIMEOUT_S = 10.0  # from the ACK to audio both ways: a PBX may set a call up on hold and connect it then
MEDIA_POLL_S = 0.01


class SipLeg:
    """One phone call.

    Args:
        call: the stack's.
        from_: URI of who calls.
        to: URI of who is called.
        refuse: see `RefusingRuntime.refuse`; None: 486 is all there is.
        domain: where bare numbers live that the call is transferred to; None for the far end's own.
    """

    kind = LegKind.SIP
    playout_delay_s = 0.0

    def __init__(
        self,
        call: Call,
        settings: SipSettings,
        from_: str,
        to: str,
        domain: str | None = None,
        refuse: Refuse | None = None,
    ) -> None:
        self._call = call
        self._settings = settings
        self.from_ = from_
        self.to = to
        self._domain = domain
        self._refuse = refuse
        self.media = SipMedia(call.audio)
        self.on_received: Callable[[Reception], None] = lambda reception: None
        self.on_measured: Callable[[Measured], None] = lambda measured: None
        self._transport: SipTransport | None = None
        self._incoming = call.state is CallState.INCOMING
        self._answered = False
        loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[str] = loop.create_future()
        self._established: asyncio.Future[None] = loop.create_future()
        self._limit: asyncio.TimerHandle | None = None
        self._hanging_up: asyncio.Task[None] | None = None
        # Before any answer: the events of a quick caller may come with it.
        call.on(self._on_event)
        call.on_dtmf(self._on_key)
        call.on_rtcp(lambda stats: self.on_measured(measured_by(stats)))

    @property
    def sip_call_id(self) -> str:
        """The Call-ID header, the same in the far end's log."""
        return self._call.call_id or ""

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
        """See `OwnQueue`."""
        return self.media.unsent_s()

    def drop_unsent(self) -> None:
        """See `OwnQueue`."""
        self.media.flush()

    @property
    def held(self) -> bool:
        """One side holds the call: nothing is heard or said until it is resumed."""
        return self.media.held

    async def answer(self) -> None:
        """Takes an incoming call, or waits until a placed one is taken; returns when media flows.

        Raises:
            LegError: the far end gave up or refused, or media did not come up.
        """
        if self._incoming:
            await self._accept()
            patience = ANSWER_TIMEOUT_S
        else:
            patience = self._settings.ring_timeout_s
        outcomes: tuple[asyncio.Future[Any], ...] = (self.ended, self._established)
        await asyncio.wait(outcomes, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
        if not self._established.done():
            await self.hang_up("not answered" if not self._incoming else "answer not acknowledged")
            raise LegError(self.ended.result())
        await self._wait_for_media()
        self._limit = asyncio.get_running_loop().call_later(self._settings.max_call_s, self._too_long)

    async def hang_up(self, reason: str) -> None:
        """Ends the call, or declines it with 486 when it still rings. Idempotent."""
        if self.ended.done():
            return
        self._end(reason)
        with contextlib.suppress(BaresipError):  # the far end may have hung up at the same time
            if self._incoming and not self._answered:
                await self._call.reject()
            else:
                await self._call.hangup()

    async def decline(self, refusal: CallRefusedError) -> None:
        """Declines a call that rings: with 503 and Retry-After, or with 486, as the settings say. Idempotent."""
        if self.ended.done():
            return
        rings = self._incoming and not self._answered
        if rings and self._refuse is not None and self._settings.busy_status == UNAVAILABLE and self.sip_call_id:
            self._end(refusal.reason)
            if not await self._refuse(self.sip_call_id, UNAVAILABLE, "Service Unavailable", refusal.retry_after_s):
                with contextlib.suppress(BaresipError):
                    await self._call.reject()
            return
        await self.hang_up(refusal.reason)

    async def hold(self) -> None:
        """Holds the call (RFC 3264 section 8.4): a re-INVITE says that we listen no more. Idempotent.

        Raises:
            LegError: the call is not up, or another re-INVITE is under way.
        """
        try:
            await self._call.hold()
        except BaresipError as error:
            raise LegError(f"not held: {error}") from error
        self._note_hold()

    async def resume(self) -> None:
        """Ends our hold. Idempotent.

        Raises:
            LegError: the call is not up, or another re-INVITE is under way.
        """
        try:
            await self._call.resume()
        except BaresipError as error:
            raise LegError(f"not resumed: {error}") from error
        self._note_hold()

    async def transfer(self, target: str) -> None:
        """Blind transfer (RFC 3515) to a SIP URI or a number; returns when the target answered, and the call has ended.

        The far end's NOTIFYs are waited for; while it reports progress, and after a failure, the call goes on.

        Raises:
            LegError: not a usable target, the call is not up or ended meanwhile, or the far end refused or reported
                failure, with the status that it gave.
        """
        uri = self._uri_of(target)
        try:
            await self._call.transfer(uri, timeout=self._settings.transfer_timeout_s)
        except BaresipError as error:
            raise LegError(f"transfer failed: {str(error).removeprefix('transfer failed: ')}") from error

    async def send_dtmf(self, digits: str) -> None:
        """Sends keys as RTP events (RFC 4733), or as SIP INFO to a far end that has not agreed to those.

        Raises:
            LegError: not a key, or the call is over.
        """
        try:
            await self._call.send_dtmf(digits)
        except (BaresipError, ValueError) as error:
            raise LegError(f"keys not sent: {error}") from error

    def lost(self, reason: str) -> None:
        """The stack beneath is gone."""
        self._end(reason)

    async def _accept(self) -> None:
        if self.ended.done():
            raise LegError(self.ended.result())
        self._answered = True
        try:
            # Without `video` the stack follows its answer with a re-INVITE that takes the video stream away, offered
            # or not; phones treat that as a new session and drop their audio for a moment.
            await self._call.answer(video=True)
        except BaresipError as error:
            # A CANCEL that crossed our answer shows as a stale handle here.
            self._end("caller gave up")
            raise LegError(f"the call could not be answered: {error}") from error

    async def _wait_for_media(self) -> None:
        deadline = asyncio.get_running_loop().time() + MEDIA_TIMEOUT_S
        while not self.media.is_up():
            if self.ended.done():
                raise LegError(self.ended.result())
            if asyncio.get_running_loop().time() > deadline:
                await self.hang_up("no media")
                raise LegError("audio streams did not open")
            await asyncio.sleep(MEDIA_POLL_S)

    def _uri_of(self, target: str) -> str:
        if SIP_URI.fullmatch(target):
            return target
        if NUMBER.fullmatch(target):
            return f"sip:{target}@{self._domain or host_of(self.from_ if self._incoming else self.to)}"
        raise LegError(f"cannot transfer to {target!r}: give a SIP URI or a number")

    def _on_event(self, event: StackEvent) -> None:
        if event.event is Event.CALL_ESTABLISHED:
            if not self._established.done():
                self._established.set_result(None)
        elif event.event in (Event.CALL_HOLD, Event.CALL_RESUME):
            self._note_hold()
        elif event.event is Event.CALL_CLOSED:
            self._end(self._reason(event.text or ""))
            if self._established.done() and self._call.final_stats is not None:
                self.on_received(reception_of(self._call.final_stats))

    def _note_hold(self) -> None:
        self.media.held = self._call.is_on_hold or self._call.remote_on_hold

    def _reason(self, text: str) -> str:
        if self._established.done():
            return {"rtp stream error": NO_AUDIO, "Call transfered": "transferred"}.get(text, "caller hung up")
        if self._incoming:
            return "caller gave up"
        status = text.partition(" ")[0]
        return {"486": "busy", "603": "declined"}.get(status, f"refused: {status}" if status.isdigit() else "failed")

    def _on_key(self, event: DigitEvent) -> None:
        self.media.keys.append(event.digit)

    def _too_long(self) -> None:
        self._hanging_up = asyncio.get_running_loop().create_task(self.hang_up("call too long"))

    def _end(self, reason: str) -> None:
        if self._limit is not None:
            self._limit.cancel()
        if not self.ended.done():
            self.ended.set_result(reason)


def reception_of(stats: CallStats) -> Reception:
    """What the stack counted. RTCP's figures are zero in a call too short for it, the jitter buffer's are not."""
    return Reception(
        packets=stats.rx_packets,
        lost=max(stats.rx_lost, stats.jbuf_lost or 0),
        jitter_s=(stats.rx_jitter_ms or stats.jbuf_jitter_ms or 0) / 1000,
        delay_s=(stats.rtt_ms / 2 + (stats.jbuf_delay_ms or 0)) / 1000,
    )


def measured_by(stats: CallStats) -> Measured:
    """What is known with each RTCP report of the far end (RFC 3550 section 6.4)."""
    trip_s = stats.rtt_ms / 1000 if stats.rtt_ms else None
    sent = Reception(
        packets=max(0, stats.tx_packets - stats.tx_lost),
        lost=max(0, stats.tx_lost),
        jitter_s=stats.tx_jitter_ms / 1000,
        delay_s=(trip_s or 0.0) / 2,
    )
    return Measured(reception_of(stats), sent, trip_s)
