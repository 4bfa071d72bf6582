"""A phone call that a carrier brings over a websocket: pipecat's serializers and transport as a leg."""

import asyncio
import base64
import binascii
import contextlib
import json
import logging
import time
from typing import Any

import numpy as np
from pipecat.audio.dtmf.types import KeypadEntry
from pipecat.frames.frames import AudioRawFrame, Frame, InputAudioRawFrame, InterruptionFrame
from pipecat.processors.frame_processor import FrameProcessorSetup
from pipecat.serializers.base_serializer import FrameSerializer
from pipecat.transports.base_transport import BaseTransport
from pipecat.transports.websocket.fastapi import FastAPIWebsocketParams, FastAPIWebsocketTransport
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from services.agent.carriers.base import RATE, Announced, Carrier, Message, ProtocolError, Stream, text
from services.agent.carriers.playout import Playout
from services.agent.legs.base import INPUT_RATE, PACKET_MS, LegError, LegKind, UnsupportedByLegError
from services.agent.legs.rates import converter

log = logging.getLogger(__name__)

START_S = 5.0  # from the handshake to the message that starts the stream
MAX_PAYLOAD_BYTES = 8192  # a second of G.711 in 20 ms frames is 50 messages; this would be one
GONE_S = 20.0  # for the pipeline to let go of a socket whose call is over
NORMAL, POLICY, BAD_DATA = 1000, 1008, 1007  # close codes (RFC 6455, section 7.4.1)


class MediaSocket(WebSocket):
    """A websocket that more than one may close; the first reason given is the one sent."""

    @property
    def is_open(self) -> bool:
        """Neither side has closed it."""
        return WebSocketState.DISCONNECTED not in (self.client_state, self.application_state)

    async def close(self, code: int = NORMAL, reason: str | None = None) -> None:
        """Closes it, if it is open."""
        if self.is_open:
            with contextlib.suppress(WebSocketDisconnect):  # the other side has closed it meanwhile
                await super().close(code, reason)


class CarrierLeg:
    """One call. Made from the carrier's webhook; `serve` brings its websocket, which may be once at most."""

    kind = LegKind.CARRIER
    output_rate = RATE

    def __init__(self, carrier: Carrier, announced: Announced) -> None:
        self._carrier = carrier
        self._announced = announced
        self._connected = asyncio.Event()
        self._released = asyncio.Event()
        self._socket: MediaSocket | None = None
        self._transport: FastAPIWebsocketTransport | None = None
        self.playout = Playout()
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    @property
    def from_(self) -> str:
        """The caller's number as the carrier gives it."""
        return self._announced.from_

    @property
    def to(self) -> str:
        """The called number as the carrier gives it."""
        return self._announced.to

    @property
    def transport(self) -> BaseTransport:
        """pipecat's transport; there is one from the answer on."""
        assert self._transport is not None
        return self._transport

    @property
    def playout_delay_s(self) -> float:
        """See `Leg`; from the marks that the carrier returns."""
        return self.playout.delay_s

    async def answer(self) -> None:
        """Waits for the carrier's websocket.

        Raises:
            LegError: the call is over.
        """
        connected = asyncio.create_task(self._connected.wait())
        either: set[asyncio.Future[Any]] = {connected, self.ended}
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            connected.cancel()
        if self.ended.done():
            raise LegError(self.ended.result())

    async def hang_up(self, reason: str) -> None:
        """Closes the websocket; the XML that opened it has the carrier hang up then."""
        self._end(reason)
        if self._socket is not None:
            await self._socket.close()
        self._released.set()

    async def transfer(self, target: str) -> None:
        """A media stream has no word for it."""
        raise UnsupportedByLegError("a call over a carrier's websocket cannot be transferred: use the carrier's API")

    async def send_dtmf(self, digits: str) -> None:
        """A media stream has no word for it."""
        raise UnsupportedByLegError("a call over a carrier's websocket takes no DTMF: use the carrier's API")

    async def serve(self, socket: MediaSocket) -> None:
        """Runs the call's websocket until it is closed."""
        await socket.accept()
        try:
            async with asyncio.timeout(START_S):
                stream = await self._stream(socket)
        except (ProtocolError, TimeoutError) as error:
            why = str(error) or "no stream was started"
            log.warning("a carrier's stream was refused", extra={"carrier": self._carrier.name, "why": why})
            await socket.close(POLICY, why)
            self._end("the carrier's stream did not start")
            return
        except WebSocketDisconnect:
            self._end("the caller gave up")
            return
        self._connect(socket, stream)
        await asyncio.wait({self.ended})
        # The pipeline has the socket in its hands until the call has wound up.
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._released.wait(), GONE_S)
        await socket.close()

    async def _stream(self, socket: MediaSocket) -> Stream:
        while True:
            stream = self._carrier.started(parse(await _next(socket)))
            if stream is None:
                continue
            if stream.call_id != self._announced.call_id:
                raise ProtocolError("a stream of another call")
            return stream

    def _connect(self, socket: MediaSocket, stream: Stream) -> None:
        params = FastAPIWebsocketParams(
            serializer=CarrierSerializer(self, self._carrier, stream, socket),
            allowed_origins=[],
            audio_in_enabled=True,
            audio_in_sample_rate=INPUT_RATE,
            audio_out_enabled=True,
            audio_out_sample_rate=RATE,
            audio_out_10ms_chunks=PACKET_MS // 10,
            audio_out_end_silence_secs=0,
        )
        self._socket = socket
        self._transport = FastAPIWebsocketTransport(socket, params)
        self._transport.add_event_handler("on_client_disconnected", self._disconnected)
        self._connected.set()

    def give_up(self) -> None:
        """The carrier waits no longer for an answer."""
        self._end("the caller gave up")

    def stopped(self) -> None:
        """The carrier says that the call is over."""
        self._end("the caller hung up")

    async def broken(self, why: str) -> None:
        """The carrier sends what it must not."""
        if not self.ended.done():
            log.warning("a carrier's stream broke", extra={"carrier": self._carrier.name, "why": why})
            self._end("the carrier's stream is malformed")
            if self._socket is not None:
                await self._socket.close(BAD_DATA, why)

    async def _disconnected(self, _transport: object, _socket: object) -> None:
        self._end("the caller hung up")

    def _end(self, reason: str) -> None:
        if not self.ended.done():
            self.ended.set_result(reason)


class CarrierSerializer(FrameSerializer):  # type: ignore[misc]  # pipecat is untyped
    """pipecat's serializer between checks: it trusts what it is sent, and its resampler is slow to answer."""

    def __init__(self, leg: CarrierLeg, carrier: Carrier, stream: Stream, socket: MediaSocket) -> None:
        super().__init__()
        self._leg = leg
        self._carrier = carrier
        self._stream = stream
        self._socket = socket
        self._inner = carrier.serializer(stream)
        self._to_input_rate = converter(RATE, INPUT_RATE)

    async def setup(self, setup: FrameProcessorSetup) -> None:
        """See `FrameSerializer`."""
        await self._inner.setup(setup)

    async def serialize(self, frame: Frame) -> str | bytes | None:
        """A message for the carrier; a mark, when one is due, goes before it."""
        now = time.monotonic()
        if isinstance(frame, AudioRawFrame):
            mark = self._leg.playout.mark()
            if mark is not None and self._socket.is_open:
                await self._socket.send_text(json.dumps(self._carrier.mark(self._stream, mark)))
            self._leg.playout.sent(now, len(frame.audio) / 2 / RATE)
        elif isinstance(frame, InterruptionFrame):
            self._leg.playout.cleared(now)
        payload: str | bytes | None = await self._inner.serialize(frame)
        return payload

    async def deserialize(self, data: str | bytes) -> Frame | None:
        """The frame in a message of the carrier, if there is one."""
        try:
            return await self._frame(data)
        except ProtocolError as error:
            await self._leg.broken(str(error))
            return None

    async def _frame(self, data: str | bytes) -> Frame | None:
        message = parse(data)
        match message.get("event"):
            case "media":
                return await self._audio(message, data)
            case "dtmf":
                if text(message, "dtmf", "digit") not in {key.value for key in KeypadEntry}:
                    return None  # A to D: on no keypad that pipecat knows
                key: Frame | None = await self._inner.deserialize(data)
                return key
            case "stop":
                self._leg.stopped()
            case "error":
                raise ProtocolError("the carrier reports an error")
            case _:
                name = self._carrier.played(message)
                if name is not None:
                    self._leg.playout.played(time.monotonic(), name)
        return None

    async def _audio(self, message: Message, data: str | bytes) -> Frame | None:
        payload = text(message, "media", "payload")
        if message["media"].get("track", "inbound") not in ("inbound", "inbound_track"):
            return None  # our own voice
        if len(payload) > MAX_PAYLOAD_BYTES:
            raise ProtocolError("a payload that is too long")
        try:
            base64.b64decode(payload, validate=True)
        except binascii.Error as error:
            raise ProtocolError("a payload that is not base64") from error
        frame: InputAudioRawFrame | None = await self._inner.deserialize(data)
        if frame is None:
            return None
        samples = self._to_input_rate.convert(np.frombuffer(frame.audio, np.int16))
        return InputAudioRawFrame(audio=samples.tobytes(), sample_rate=INPUT_RATE, num_channels=1)


def parse(data: str | bytes) -> Message:
    """A message as a carrier sends it: a JSON object as text.

    Raises:
        ProtocolError: it is something else.
    """
    if isinstance(data, bytes):
        raise ProtocolError("a binary message")
    try:
        message = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ProtocolError("a message that is not JSON") from error
    if not isinstance(message, dict):
        raise ProtocolError("a message that is not a JSON object")
    return message


async def _next(socket: MediaSocket) -> str | bytes:
    received = await socket.receive()
    if received["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(received.get("code", NORMAL))
    data: str | bytes | None = received.get("text")
    return data if data is not None else received.get("bytes") or b""
