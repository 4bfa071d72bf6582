"""A call from a browser: pipecat's SmallWebRTC transport (aiortc) behind the leg's interface."""

import asyncio
import json
from typing import Any

from pipecat.transports.base_transport import BaseTransport, TransportParams
from pipecat.transports.smallwebrtc.connection import SmallWebRTCConnection
from pipecat.transports.smallwebrtc.transport import SmallWebRTCTransport

from services.agent.legs.base import INPUT_RATE, PACKET_MS, LegError, LegKind, UnsupportedByLegError

OUTPUT_RATE = 48_000  # Opus' own rate: aiortc then resamples nothing
MAX_SDP_BYTES = 64 * 1024
HANG_UP_MESSAGES = ("disconnect-bot",)  # RTVI's word for it


class BadOfferError(ValueError):
    """An SDP offer that cannot be answered; the message says why."""


class WebRtcLeg:
    """One browser's connection. Made by `from_offer`; `sdp_answer` goes back to the browser, then media comes up."""

    playout_delay_s = 0.0

    def __init__(self, connection: SmallWebRTCConnection, caller: str) -> None:
        self._connection = connection
        self._caller = caller
        self._connected = asyncio.Event()
        self._ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        params = TransportParams(
            audio_in_enabled=True,
            audio_in_sample_rate=INPUT_RATE,
            audio_out_enabled=True,
            audio_out_sample_rate=OUTPUT_RATE,
            audio_out_10ms_chunks=PACKET_MS // 10,
            audio_out_end_silence_secs=0,
        )
        self._transport = SmallWebRTCTransport(connection, params)
        connection.pc.on("connectionstatechange", self._state_changed)
        self._transport.add_event_handler("on_app_message", self._app_message)

    @classmethod
    async def from_offer(cls, sdp: str, caller: str) -> "WebRtcLeg":
        """Makes the leg and its SDP answer from a browser's offer.

        Raises:
            BadOfferError: not SDP, no audio in it, or nothing in common.
        """
        if len(sdp.encode()) > MAX_SDP_BYTES:
            raise BadOfferError(f"the offer is longer than {MAX_SDP_BYTES} bytes")
        if not sdp.startswith("v=0") or "\nm=audio " not in sdp.replace("\r\n", "\n"):
            raise BadOfferError("the offer is no SDP with an audio section")
        connection = SmallWebRTCConnection()
        try:
            await connection.initialize(sdp=sdp, type="offer")
        except Exception as error:  # aiortc raises whatever its parser meets
            await connection.pc.close()
            raise BadOfferError(f"the offer cannot be used: {type(error).__name__}: {error}") from error
        return cls(connection, caller)

    @property
    def sdp_answer(self) -> str:
        """The SDP answer, candidates included."""
        return str(self._connection.get_answer()["sdp"])

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

    async def hang_up(self, reason: str) -> None:
        """Tells the page and closes the connection."""
        self._end(reason)
        await self._connection.disconnect()

    async def transfer(self, target: str) -> None:
        """A browser cannot be transferred."""
        raise UnsupportedByLegError("a WebRTC call cannot be transferred")

    async def send_dtmf(self, digits: str) -> None:
        """A browser takes no keys."""
        raise UnsupportedByLegError("a WebRTC call takes no DTMF")

    async def _state_changed(self) -> None:
        state = self._connection.pc.connectionState
        if state == "connected":
            self._connected.set()
        elif state == "failed":
            self._end("the connection to the page was lost")
        elif state == "closed":
            self._end("the caller hung up")

    async def _app_message(self, _transport: object, message: object, _sender: str) -> None:
        if isinstance(message, str):
            try:
                message = json.loads(message)
            except ValueError:
                return
        if isinstance(message, dict) and message.get("type") in HANG_UP_MESSAGES:
            self._end("the caller hung up")

    def _end(self, reason: str) -> None:
        if not self._ended.done():
            self._ended.set_result(reason)
