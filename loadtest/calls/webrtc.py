"""A call over WebRTC, by aiortc: what a browser does, without one.

Packets are sent encoded, and taken as they come, with the time of their arrival: aiortc's own jitter buffer, which
forgets that time, is replaced where aiortc keeps it, as is the way to and from its transport when packets are dropped
on purpose. A different aiortc fails at the first call, and not silently.
"""

import asyncio
import fractions
import time
from collections.abc import Awaitable, Callable
from typing import cast

import httpx
import numpy as np
from aiortc import MediaStreamTrack, RTCConfiguration, RTCPeerConnection, RTCRtpReceiver, RTCSessionDescription
from aiortc.jitterbuffer import JitterBuffer
from aiortc.mediastreams import MediaStreamError
from aiortc.rtp import RtpPacket, is_rtcp
from av import AudioCodecContext
from av.audio.stream import AudioStream
from av.error import FFmpegError
from av.packet import Packet

from loadtest.calls.ear import Ear
from loadtest.calls.line import PACKET_S, FaultError, Losses, Mouth, NetworkError, RefusedError, Signalling
from loadtest.calls.voices import OPUS_PACKET, OPUS_RATE, Voices
from loadtest.scenario.plan import PlannedCall
from loadtest.sip.talker import LOUD
from services.agent.legs.webrtc_connecting import Connecting

BUFFER_ATTRIBUTE = "_RTCRtpReceiver__jitter_buffer"
BUSY = (429, 503)  # "not now": the system may say so
GOODBYE_S = 32.0
TIME_BASE = fractions.Fraction(1, OPUS_RATE)


class OpusEar:
    """Takes packets from aiortc in the place of its jitter buffer, and notes when each came and whether it is loud."""

    def __init__(self, receiver: RTCRtpReceiver, ear: Ear) -> None:
        if not isinstance(getattr(receiver, BUFFER_ATTRIBUTE, None), JitterBuffer):
            raise RuntimeError("this aiortc keeps its jitter buffer elsewhere")
        setattr(receiver, BUFFER_ATTRIBUTE, self)
        self._ear = ear
        self._codec = opus_decoder()

    def add(self, packet: RtpPacket) -> tuple[bool, None]:
        """Never asks for a picture, and never has a frame for aiortc's decoder."""
        at = time.monotonic()
        loud = np.abs(opus_pcm(self._codec, packet.payload).astype(np.int32)).max(initial=0) > LOUD
        self._ear.hear(at, packet.sequence_number, packet.timestamp, packet.payload, bool(loud))
        return False, None


def opus_decoder() -> AudioCodecContext:
    """Mono, 48 kHz."""
    codec = AudioCodecContext.create("libopus", "r")
    codec.format, codec.layout, codec.sample_rate = "s16", "mono", OPUS_RATE
    return codec


def opus_pcm(codec: AudioCodecContext, payload: bytes) -> "np.ndarray[tuple[int], np.dtype[np.int16]]":
    """16-bit PCM at 48 kHz of a packet; silence of 20 ms for one that cannot be decoded."""
    try:
        frames = codec.decode(Packet(payload))
    except FFmpegError:
        frames = []
    if not frames:
        return np.zeros(OPUS_PACKET, np.int16)
    return np.concatenate([frame.to_ndarray().reshape(-1) for frame in frames]).astype(np.int16, copy=False)


class Microphone(MediaStreamTrack):
    """What the mouth says, encoded already, on its clock."""

    kind = "audio"

    def __init__(self, mouth: Mouth, silence: bytes) -> None:
        super().__init__()
        self._mouth, self._silence = mouth, silence
        self._sent = 0
        self._due = 0.0

    async def recv(self) -> "Packet[AudioStream]":
        """The next packet."""
        if self.readyState != "live":
            raise MediaStreamError
        self._due = self._due or time.monotonic()
        if (wait_s := self._due - time.monotonic()) > 0:
            await asyncio.sleep(wait_s)
        packet = cast("Packet[AudioStream]", Packet(self._mouth.next(self._due) or self._silence))
        packet.pts, packet.time_base = self._sent, TIME_BASE
        self._sent += OPUS_PACKET
        self._due += PACKET_S
        return packet


class WebLine:
    """One call; see `Line`.

    Args:
        page: URL of the agent's web page.
        http: shared by all calls.
        key: for a persona by its name, or for pages behind a key; empty: none.
        answer_s: for which the caller waits for a connection.
        losses: of packets, on purpose.
    """

    def __init__(
        self,
        page: str,
        http: httpx.AsyncClient,
        key: str,
        plan: PlannedCall,
        voices: Voices,
        answer_s: float,
        losses: Losses,
    ) -> None:
        self._page, self._http, self._key, self._plan, self._voices = page, http, key, plan, voices
        self._answer_s, self._losses = answer_s, losses
        self.ear = Ear("opus")
        self.mouth = Mouth()
        self.signalling = Signalling()
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._peer: RTCPeerConnection | None = None
        self._connecting: Connecting | None = None
        self._token = ""
        self._connected = asyncio.Event()
        self._over = False

    async def call(self) -> float:
        """See `Line`."""
        peer = self._peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self._connecting = Connecting(peer)
        peer.createDataChannel("rtvi")
        peer.addTrack(Microphone(self.mouth, self._voices.silence))
        peer.on("track", self._track)
        peer.on("connectionstatechange", self._changed)
        await peer.setLocalDescription(await peer.createOffer())
        began = time.monotonic()
        offer = {"sdp": peer.localDescription.sdp, "type": "offer"}
        if self._plan.persona:
            offer["persona"] = self._plan.persona
        answer = await self._post(offer)
        self.signalling.first_s = time.monotonic() - began
        self._token = str(answer["pc_id"])
        try:
            async with asyncio.timeout(max(0.0, self._answer_s - self.signalling.first_s)):
                await peer.setRemoteDescription(RTCSessionDescription(str(answer["sdp"]), "answer"))
                await self._connected.wait()
        except TimeoutError:
            raise NetworkError("no connection in time") from None
        if self.ended.done():
            raise NetworkError(f"connection {self.ended.result()}")
        now = time.monotonic()
        self.signalling.answer_s = now - began
        self._let_packets_be_lost(peer)
        return now

    async def _post(self, offer: dict[str, str]) -> dict[str, object]:
        try:
            response = await self._http.post(
                f"{self._page}/api/offer", json=offer, headers=self._headers(), timeout=self._answer_s
            )
        except httpx.TimeoutException:
            raise FaultError("no answer to the offer in time") from None
        except httpx.HTTPError as error:
            raise NetworkError(f"the page cannot be reached: {type(error).__name__}") from None
        if response.status_code in BUSY:
            raise RefusedError(str(response.status_code))
        if response.status_code != 200:
            raise FaultError(f"offer refused with {response.status_code}")
        answer: dict[str, object] = response.json()
        return answer

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._key}"} if self._key else {}

    def say(self, question: str) -> None:
        """See `Line`."""
        self.mouth.say(self._voices.words[question].opus)

    async def hold(self) -> None:
        """Silence, which a caller who does not speak sends anyway: a browser has nothing else."""

    async def resume(self) -> None:
        """See `hold`."""

    async def press(self, keys: str) -> None:
        """aiortc has no telephone events; scenarios have none for WebRTC."""
        raise NotImplementedError

    async def hang_up(self) -> None:
        """See `Line`."""
        if self._over or self.ended.done():
            return
        self._over = True
        if not self._token:
            return
        began = time.monotonic()
        try:
            response = await self._http.request(
                "DELETE",
                f"{self._page}/api/offer",
                json={"pc_id": self._token},
                headers=self._headers(),
                timeout=GOODBYE_S,
            )
        except httpx.HTTPError as error:
            raise FaultError(f"no response to the goodbye: {type(error).__name__}") from None
        if response.status_code not in (204, 404, 410):
            raise FaultError(f"goodbye refused with {response.status_code}")
        self.signalling.bye_s = time.monotonic() - began

    async def close(self) -> None:
        """See `Line`."""
        self._over = True
        if self._connecting is not None:
            await self._connecting.stop()
        if self._peer is not None:
            await self._peer.close()

    def _track(self, track: MediaStreamTrack) -> None:
        assert self._peer is not None
        OpusEar(self._peer.getReceivers()[0], self.ear)

    def _changed(self) -> None:
        assert self._peer is not None
        state = self._peer.connectionState
        if state == "connected":
            self._connected.set()
        elif state in ("failed", "closed"):
            self._connected.set()
            if not self.ended.done() and not self._over:
                self.ended.set_result(state)

    def _let_packets_be_lost(self, peer: RTCPeerConnection) -> None:
        """On purpose, between DTLS and ICE, as a network would."""
        transport = peer.getSenders()[0].transport
        send: Callable[[bytes], Awaitable[None]] = transport._send_rtp
        take: Callable[..., Awaitable[None]] = transport._handle_rtp_data
        losses = self._losses

        async def sending(data: bytes) -> None:
            if is_rtcp(data) or not losses.bot_misses():
                await send(data)

        async def taking(data: bytes, arrival_time_ms: int) -> None:
            if not losses.caller_misses():
                await take(data, arrival_time_ms=arrival_time_ms)

        transport._send_rtp = sending  # type: ignore[method-assign]
        transport._handle_rtp_data = taking  # type: ignore[method-assign]


def browser() -> httpx.AsyncClient:
    """The HTTP client of all callers of a run; close it."""
    return httpx.AsyncClient(limits=httpx.Limits(max_connections=None, max_keepalive_connections=64))
