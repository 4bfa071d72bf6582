"""A call from a browser: pipecat's SmallWebRTC transport (aiortc) behind the leg's interface."""

import asyncio
import json
import logging
from collections.abc import Callable, Sequence
from typing import Any

from aiortc import RTCIceCandidate, RTCIceServer
from aiortc.stats import RTCRemoteInboundRtpStreamStats
from pipecat.transports.base_transport import BaseTransport, TransportParams

from services.agent import metrics
from services.agent.e_model import G711_CONCEALED
from services.agent.legs.base import CALLER_LOST, INPUT_RATE, PACKET_MS, LegError, LegKind, UnsupportedByLegError
from services.agent.legs.webrtc_connection import Connection, Transport
from services.agent.legs.webrtc_sdp import BadOfferError, opus_only
from services.agent.media_quality import Measured, Reception
from services.agent.rtvi import CLIENT_READY, bot_ready

log = logging.getLogger(__name__)

OUTPUT_RATE = 48_000  # Opus' own rate: nothing resamples then
HANG_UP_MESSAGES = ("disconnect-bot",)  # RTVI's word for it
SILENT_S = 5.0  # without a packet the page is gone: browsers send all the time, muted or not
WATCH_S = 0.5
CALLER_HUNG_UP = "the caller hung up"


class WebRtcLeg:
    """One browser's call. Made by `from_offer`; `sdp_answer` goes back to the browser, then media comes up.

    When its connection is lost (the page reloads, the network goes away) the leg lives on for `resume_s`, and `resume`
    gives it another one; the pipeline above hears nothing meanwhile.
    """

    playout_delay_s = 0.0

    def __init__(self, connection: Connection, caller: str, resume_s: float) -> None:
        self._connection = connection
        self._caller = caller
        self._resume_s = resume_s
        self._connected = asyncio.Event()
        self._ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._giving_up: asyncio.TimerHandle | None = None
        self._one_offer = asyncio.Lock()
        self._watching: asyncio.Task[None] | None = None
        self._on_return: Callable[[], None] = lambda: None
        params = TransportParams(
            audio_in_enabled=True,
            audio_in_sample_rate=INPUT_RATE,
            audio_out_enabled=True,
            audio_out_sample_rate=OUTPUT_RATE,
            audio_out_10ms_chunks=PACKET_MS // 10,
            audio_out_end_silence_secs=0,
        )
        self._transport = Transport(connection, params)
        self._listen()
        self._transport.add_event_handler("on_app_message", self._app_message)

    @classmethod
    async def from_offer(
        cls, sdp: str, caller: str, ice_servers: Sequence[RTCIceServer] = (), resume_s: float = 0.0
    ) -> "WebRtcLeg":
        """Makes the leg and its SDP answer from a browser's offer.

        Args:
            sdp: the offer, with all its candidates or none; `add_candidates` takes those that come later.
            caller: what the client calls itself.
            ice_servers: aiortc uses the first STUN and the first TURN server among them.
            resume_s: how long the call outlives its connection; 0: not at all.

        Raises:
            BadOfferError: not SDP, no audio in it, or nothing in common.
        """
        offer = opus_only(sdp)
        connection = Connection(list(ice_servers))
        try:
            await connection.initialize(sdp=offer, type="offer")
        except Exception as error:  # aiortc raises whatever its parser meets
            await connection.abandon()
            raise BadOfferError(f"the offer cannot be used: {type(error).__name__}: {error}") from error
        return cls(connection, caller, resume_s)

    async def resume(self, sdp: str) -> None:
        """Puts the call on another peer connection, made from this offer; `sdp_answer` is its answer then.

        Raises:
            BadOfferError: see `from_offer`; the call stays as it was when the offer cannot be read.
            LegError: the call has ended.
        """
        offer = opus_only(sdp)
        async with self._one_offer:
            if self._ended.done():
                raise LegError(self._ended.result())
            self._keep()
            self._lose()  # the whole of the time again
            self._tell_of_audio()
            self._connected.clear()
            try:
                await self._connection.renegotiate(offer, "offer", restart_pc=True)
            except Exception as error:
                raise BadOfferError(f"the offer cannot be used: {type(error).__name__}: {error}") from error
            self._listen()

    async def renegotiate(self, sdp: str) -> None:
        """Takes another offer on the peer connection there is; aiortc cannot restart ICE on it.

        Raises:
            BadOfferError: see `from_offer`.
            LegError: the call has ended.
        """
        offer = opus_only(sdp)
        async with self._one_offer:
            if self._ended.done():
                raise LegError(self._ended.result())
            try:
                await self._connection.renegotiate(offer, "offer")
            except Exception as error:
                raise BadOfferError(f"the offer cannot be used: {type(error).__name__}: {error}") from error

    async def add_candidates(self, candidates: Sequence[RTCIceCandidate | None]) -> None:
        """Takes ICE candidates that were not in the offer (RFC 8838); None is their end."""
        for candidate in candidates:
            await self._connection.add_ice_candidate(candidate)

    @property
    def sdp_answer(self) -> str:
        """The SDP answer, our candidates included: aiortc does not trickle its own."""
        answer = self._connection.get_answer()
        assert answer is not None
        return str(answer["sdp"])

    @property
    def kind(self) -> LegKind:
        """WebRTC."""
        return LegKind.WEBRTC

    @property
    def from_(self) -> str:
        """What the web client calls itself."""
        return self._caller

    @property
    def to(self) -> str:
        """A page has no number."""
        return "web"

    @property
    def transport(self) -> BaseTransport:
        """pipecat's transport."""
        return self._transport

    @property
    def output_rate(self) -> int:
        """48 kHz."""
        return OUTPUT_RATE

    @property
    def ended(self) -> "asyncio.Future[str]":
        """See `Leg`."""
        return self._ended

    def on_return(self, callback: Callable[[], None]) -> None:
        """Has `callback` called whenever the call is on another connection: its screen is empty then."""
        self._on_return = callback

    async def answer(self) -> None:
        """Waits until ICE and DTLS are up.

        Raises:
            LegError: they failed, or the page went away.
        """
        connected = asyncio.create_task(self._connected.wait())
        either: set[asyncio.Future[Any]] = {connected, self._ended}
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            connected.cancel()
        if self._ended.done():
            raise LegError(self._ended.result())
        self._watching = asyncio.create_task(self._watch(), name="webrtc-watch")

    def caller_hung_up(self) -> None:
        """The page said goodbye."""
        self._end(CALLER_HUNG_UP)

    async def hang_up(self, reason: str) -> None:
        """Tells the page and closes the connection."""
        self._end(reason)
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
            self._watching = None
        async with self._one_offer:
            self._tell_of_audio()
            self._connection.release()
            await self._connection.disconnect()

    async def transfer(self, target: str) -> None:
        """A browser cannot be transferred."""
        raise UnsupportedByLegError("a WebRTC call cannot be transferred")

    async def send_dtmf(self, digits: str) -> None:
        """A browser takes no keys."""
        raise UnsupportedByLegError("a WebRTC call takes no DTMF")

    async def measure(self) -> Measured:
        """See `MeasuredLeg`: what came in here, and what the browser's RTCP reports say of our audio."""
        audio = self._connection.caller_audio
        received = None
        if audio is not None:
            counts = audio.counts
            received = Reception(counts.received, counts.lost, counts.jitter, codec=G711_CONCEALED)
        for sender in self._connection.pc.getSenders():
            if sender.kind != "audio":
                continue
            for report in (await sender.getStats()).values():
                if isinstance(report, RTCRemoteInboundRtpStreamStats):
                    trip_s = report.roundTripTime
                    lost, jitter_s = max(0, report.packetsLost), report.jitter / OUTPUT_RATE
                    sent = Reception(
                        report.packetsReceived, lost, jitter_s, delay_s=(trip_s or 0.0) / 2, codec=G711_CONCEALED
                    )
                    return Measured(received, sent, trip_s)
        return Measured(received)

    def _tell_of_audio(self) -> None:
        """How it came in over the connection that ends."""
        audio = self._connection.caller_audio
        if audio is None:
            return
        counts = audio.counts
        log.info("audio from the page", extra={"packets": counts.received, "lost": counts.lost, "late": counts.late})
        metrics.received(self.kind, Reception(counts.received, counts.lost, counts.jitter, codec=G711_CONCEALED))

    def _listen(self) -> None:
        peer = self._connection.pc

        def state_changed() -> None:
            if peer is self._connection.pc:
                self._state_changed(peer.connectionState)

        peer.on("connectionstatechange", state_changed)

    def _state_changed(self, state: str) -> None:
        if state == "connected":
            again = self._giving_up is not None
            self._keep()
            self._connected.set()
            if again:
                self._on_return()
        elif state in ("failed", "closed"):
            self._lose()

    async def _watch(self) -> None:
        """Notices a page that went away without a word: aiortc itself needs half a minute."""
        clock = asyncio.get_running_loop().time
        while True:
            await asyncio.sleep(WATCH_S)
            audio = self._connection.caller_audio
            if audio is None or self._connection.pc.connectionState != "connected":
                continue
            if clock() - audio.last_packet > SILENT_S:
                self._lose()
            else:
                self._keep()

    def _lose(self) -> None:
        """The page is gone; it may come back for a while."""
        if self._giving_up is None and not self._ended.done():
            give_up = asyncio.get_running_loop().call_later
            self._giving_up = give_up(self._resume_s, self._end, CALLER_LOST)

    def _keep(self) -> None:
        if self._giving_up is not None:
            self._giving_up.cancel()
            self._giving_up = None

    async def _app_message(self, _transport: object, message: object, _sender: str) -> None:
        if isinstance(message, str):
            try:
                message = json.loads(message)
            except ValueError:
                return
        if not isinstance(message, dict):
            return
        if message.get("type") in HANG_UP_MESSAGES:
            self.caller_hung_up()
        elif message.get("type") == CLIENT_READY:
            self._connection.send_app_message(bot_ready(str(message.get("id", ""))))

    def _end(self, reason: str) -> None:
        self._keep()
        if not self._ended.done():
            self._ended.set_result(reason)
