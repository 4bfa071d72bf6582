"""A carrier with one caller: signs the webhook, connects the websocket that the answer names, speaks its protocol.

What the agent sends goes into a playout buffer, as at the carrier; what is played from it is what the caller hears.
"""

import asyncio
import audioop
import base64
import contextlib
import hashlib
import hmac
import json
import time
import uuid
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode, urlsplit
from xml.etree import ElementTree

import httpx
import numpy as np
import websockets
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.integration.phone import RATE, Pcm, speech_span
from tests.integration.stack import HOST, Agent

PUBLIC_URL = "https://voice.example.com"
FRAME = RATE // 50
FRAME_S = 0.02
TOKENS = {"twilio": "twilio-token-f3a9", "plivo": "plivo-token-77c1"}
TELNYX_KEY = Ed25519PrivateKey.generate()
NUMBERS = ("+15550100123", "+15550100999")

ENVIRONMENT = {
    "TRUNKLINE_AGENT_TWILIO_AUTH_TOKEN": TOKENS["twilio"],
    "TRUNKLINE_AGENT_PLIVO_AUTH_TOKEN": TOKENS["plivo"],
    "TRUNKLINE_AGENT_TELNYX_PUBLIC_KEY": base64.b64encode(
        TELNYX_KEY.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    ).decode(),
}


def form(carrier: str, call_id: str, numbers: tuple[str, str] = NUMBERS) -> dict[str, str]:
    """What the carrier says about a call."""
    from_, to = numbers
    if carrier == "plivo":
        return {"CallUUID": call_id, "From": from_, "To": to, "Direction": "inbound", "CallStatus": "ringing"}
    return {"AccountSid": "AC1", "CallSid": call_id, "From": from_, "To": to, "CallStatus": "ringing"}


def signed(carrier: str, path: str, fields: dict[str, str], now: float | None = None) -> dict[str, str]:
    """Headers of a webhook."""
    url = PUBLIC_URL + path
    pairs = "".join(f"{name}{fields[name]}" for name in sorted(fields))
    if carrier == "twilio":
        digest = hmac.new(TOKENS[carrier].encode(), f"{url}{pairs}".encode(), hashlib.sha1).digest()
        return {"X-Twilio-Signature": base64.b64encode(digest).decode()}
    if carrier == "plivo":
        nonce = uuid.uuid4().hex
        digest = hmac.new(TOKENS[carrier].encode(), f"{url}?{pairs}.{nonce}".encode(), hashlib.sha256).digest()
        return {"X-Plivo-Signature-V3": base64.b64encode(digest).decode(), "X-Plivo-Signature-V3-Nonce": nonce}
    timestamp = str(int(time.time() if now is None else now))
    signature = TELNYX_KEY.sign(f"{timestamp}|{urlencode(fields)}".encode())
    return {"telnyx-signature-ed25519": base64.b64encode(signature).decode(), "telnyx-timestamp": timestamp}


async def webhook(agent: Agent, carrier: str, fields: dict[str, str], headers: dict[str, str]) -> httpx.Response:
    async with httpx.AsyncClient(timeout=60.0) as client:
        return await client.post(
            f"{agent.page}/carriers/{carrier}/voice",
            content=urlencode(fields),
            headers={"Content-Type": "application/x-www-form-urlencoded", **headers},
        )


async def ring(agent: Agent, carrier: str, call_id: str, numbers: tuple[str, str] = NUMBERS) -> httpx.Response:
    """A webhook as it should be."""
    fields = form(carrier, call_id, numbers)
    return await webhook(agent, carrier, fields, signed(carrier, f"/carriers/{carrier}/voice", fields))


def media_url(agent: Agent, answer: httpx.Response) -> str:
    """Where the XML sends the media: the public name, of which only the path counts on this machine."""
    assert answer.status_code == 200, answer.text
    stream = next(ElementTree.fromstring(answer.text).iter("Stream"))
    url = urlsplit((stream.get("url") or stream.text or "").strip())
    assert (url.scheme, url.netloc) == ("wss", urlsplit(PUBLIC_URL).netloc)
    return f"ws://{HOST}:{agent.http_port}{url.path}"


def opening(carrier: str, call_id: str, stream_id: str) -> list[dict[str, Any]]:
    """The messages that a stream begins with."""
    if carrier == "twilio":
        start = {
            "streamSid": stream_id,
            "accountSid": "AC1",
            "callSid": call_id,
            "tracks": ["inbound"],
            "customParameters": {},
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": RATE, "channels": 1},
        }
        connected = {"event": "connected", "protocol": "Call", "version": "1.0.0"}
        return [connected, {"event": "start", "sequenceNumber": "1", "start": start, "streamSid": stream_id}]
    if carrier == "telnyx":
        start = {
            "user_id": "3e6f995f",
            "call_control_id": call_id,
            "media_format": {"encoding": "PCMU", "sample_rate": RATE, "channels": 1},
        }
        connected = {"event": "connected", "version": "1.0.0"}
        return [connected, {"event": "start", "sequence_number": "1", "start": start, "stream_id": stream_id}]
    start = {
        "callId": call_id,
        "streamId": stream_id,
        "accountId": "MA1",
        "tracks": ["inbound"],
        "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": RATE},
    }
    return [{"event": "start", "sequenceNumber": 1, "start": start, "extra_headers": ""}]


@dataclass
class Line:
    """One call. Made by `calling`."""

    carrier: str
    call_id: str
    stream_id: str
    socket: websockets.ClientConnection
    messages: list[dict[str, Any]] = field(default_factory=list)  # all but audio
    marks: list[str] = field(default_factory=list)  # returned as played
    cleared_at: list[int] = field(default_factory=list)  # samples heard at each clear
    sent: int = 0

    def __post_init__(self) -> None:
        self._heard = bytearray()
        self._packets = bytearray()
        self._since_clear = 0
        self._queue: deque[bytes | str] = deque()  # packets of mu-law, and names of marks
        self._microphone = bytearray()

    def heard(self) -> Pcm:
        """What was played to the caller, silence included, at 8 kHz: it runs at the speed of the line."""
        return np.frombuffer(audioop.ulaw2lin(bytes(self._heard), 2), np.int16)

    def everything(self) -> Pcm:
        """What the agent has sent, packet after packet, whether it was played or not."""
        return np.frombuffer(audioop.ulaw2lin(bytes(self._packets), 2), np.int16)

    def received(self) -> Pcm:
        """What the agent has sent since the last clear, without the gaps of a busy machine."""
        return self.everything()[self._since_clear :]

    def play(self, pcm: Pcm) -> None:
        """Says 16-bit mono PCM at 8 kHz; whatever was being said stops."""
        self._microphone = bytearray(audioop.lin2ulaw(pcm.tobytes(), 2))

    async def has_said(self) -> None:
        """Until everything that it was told to say has left, and a moment of silence after it."""
        async with asyncio.timeout(120):
            while self._microphone:
                await asyncio.sleep(FRAME_S)
        await asyncio.sleep(5 * FRAME_S)

    async def hears(self, seconds: float) -> None:
        """Until speech of this length was heard."""
        async with asyncio.timeout(120):
            while np.subtract(*speech_span(self.heard())[::-1]) < seconds * RATE:
                await asyncio.sleep(0.02)

    async def press(self, digit: str) -> None:
        """A key, as the carrier reports it."""
        await self.send({"event": "dtmf", "dtmf": {"track": "inbound_track", "digit": digit}, **self._stream()})

    async def send(self, message: dict[str, Any]) -> None:
        await self.socket.send(json.dumps(message))

    def _stream(self) -> dict[str, str]:
        return {{"twilio": "streamSid", "telnyx": "stream_id", "plivo": "streamId"}[self.carrier]: self.stream_id}

    async def run(self) -> None:
        """Both directions, until the socket is closed."""
        clock = asyncio.create_task(self._clock())
        try:
            async for text in self.socket:
                await self._take(json.loads(text))
        except websockets.ConnectionClosed:
            pass
        finally:
            clock.cancel()
            with contextlib.suppress(asyncio.CancelledError, websockets.ConnectionClosed):
                await clock

    async def _clock(self) -> None:
        started, ticks = time.monotonic(), 0
        while True:
            packet = bytes(self._microphone[:FRAME]).ljust(FRAME, b"\xff")
            del self._microphone[:FRAME]
            media = {"payload": base64.b64encode(packet).decode(), "track": "inbound", "chunk": str(ticks)}
            await self.send({"event": "media", "media": media, **self._stream()})
            while self._queue and isinstance(mark := self._queue[0], str):
                self._queue.popleft()
                await self._return(mark, played=True)
            due = self._queue.popleft() if self._queue else b"\xff" * FRAME
            assert isinstance(due, bytes)
            self._heard += due
            ticks += 1
            await asyncio.sleep(max(0.0, started + ticks * FRAME_S - time.monotonic()))

    async def _take(self, message: dict[str, Any]) -> None:
        match message["event"]:
            case "media" | "playAudio":
                if self.carrier == "plivo":
                    assert (message["media"]["contentType"], message["media"]["sampleRate"]) == ("audio/x-mulaw", RATE)
                packet = base64.b64decode(message["media"]["payload"])
                assert len(packet) == FRAME
                self._queue.append(packet)
                self._packets += packet
                return
            case "mark":
                self._queue.append(message["mark"]["name"])
            case "checkpoint":
                self._queue.append(message["name"])
            case "clear" | "clearAudio":
                self.cleared_at.append(len(self._heard))
                self._since_clear = len(self._packets)
                dropped, self._queue = self._queue, deque()
                if self.carrier == "plivo":
                    await self.send({"event": "clearedAudio", **self._stream()})
                for item in dropped:
                    if isinstance(item, str):
                        await self._return(item, played=False)
            case other:
                raise AssertionError(f"{self.carrier} knows no {other}")
        if self.carrier != "telnyx":
            assert message["streamSid" if self.carrier == "twilio" else "streamId"] == self.stream_id
        self.messages.append(message)

    async def _return(self, mark: str, played: bool) -> None:
        """A mark comes back when it is played; Twilio and Telnyx return those that were cleared as well."""
        if played:
            self.marks.append(mark)
        if self.carrier == "plivo":
            if played:
                await self.send({"event": "playedStream", "name": mark, **self._stream()})
        else:
            await self.send({"event": "mark", "mark": {"name": mark}, **self._stream()})

    async def hang_up(self) -> None:
        """As when the caller does."""
        with contextlib.suppress(websockets.ConnectionClosed):
            if self.carrier != "plivo":
                await self.send({"event": "stop", "stop": {}, **self._stream()})
            await self.socket.close()


@contextlib.asynccontextmanager
async def calling(agent: Agent, carrier: str, numbers: tuple[str, str] = NUMBERS) -> AsyncIterator[Line]:
    """A call from the webhook on, hung up at the end."""
    call_id, stream_id = uuid.uuid4().hex, uuid.uuid4().hex
    answer = await ring(agent, carrier, call_id, numbers)
    async with websockets.connect(media_url(agent, answer), compression=None) as socket:
        line = Line(carrier, call_id, stream_id, socket)
        for message in opening(carrier, call_id, stream_id):
            await line.send(message)
        running = asyncio.create_task(line.run())
        try:
            yield line
            await line.hang_up()
            await asyncio.wait_for(running, 30)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
