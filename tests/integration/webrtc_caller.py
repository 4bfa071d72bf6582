"""A caller over WebRTC without a browser: aiortc speaks a waveform, and records what it hears and is shown."""

import asyncio
import contextlib
import fractions
import json
import ssl
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
import soundfile
import soxr
from aiortc import MediaStreamTrack, RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from av import AudioFrame, AudioResampler

from services.agent.legs.caller_audio import CallerAudio
from training import voices

RATE = 16_000
FRAME = RATE // 50
WAIT_S = 150.0
SAMPLES = Path(__file__).resolve().parents[2] / "samples"

Waveform = npt.NDArray[np.float32]


def sample(name: str) -> Waveform:
    """One of samples/, at 16 kHz."""
    wave, rate = soundfile.read(SAMPLES / f"{name}.wav", dtype="float32", always_2d=True)
    return np.asarray(soxr.resample(wave.mean(axis=1), rate, RATE), dtype=np.float32)


def spoken(text: str) -> Waveform:
    """In the voice of samples/."""
    return voices.say(text, voices.Speaker("hibari", shift=0.86, speed=1.0), RATE)


class Microphone(MediaStreamTrack):
    """Silence, and what it is told to say, on a 20 ms clock."""

    kind = "audio"

    def __init__(self) -> None:
        super().__init__()
        self._pending: npt.NDArray[np.int16] = np.zeros(0, np.int16)
        self._sent = 0
        self._started = 0.0
        self._asleep = False
        self.quiet = asyncio.Event()
        self.quiet.set()
        self.said_until = 0.0  # monotonic time of the last speech sent

    def fall_silent(self) -> None:
        """Sends no packet any more, as a device that has gone to sleep."""
        self._asleep = True

    def say(self, waveform: Waveform) -> None:
        samples = np.clip(waveform * 32767, -32768, 32767).astype(np.int16)
        self._pending = np.concatenate([self._pending, samples])
        self.quiet.clear()

    async def recv(self) -> AudioFrame:
        if not self._started:
            self._started = time.monotonic()
        while self._asleep:
            await asyncio.sleep(1.0)
        await asyncio.sleep(max(0.0, self._started + self._sent / RATE - time.monotonic()))
        samples = np.zeros(FRAME, np.int16)
        taken = self._pending[:FRAME]
        samples[: len(taken)] = taken
        self._pending = self._pending[FRAME:]
        if len(taken):
            self.said_until = time.monotonic()
        if not len(self._pending):
            self.quiet.set()
        frame = AudioFrame.from_ndarray(samples[None, :], layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = RATE, self._sent, fractions.Fraction(1, RATE)
        self._sent += FRAME
        return frame


class Caller:
    """One call to an agent's page.

    Args:
        tls: certificates to trust.
        ice: servers, and whether only relayed candidates may be used.
        trickle: candidates follow the offer instead of being in it.
        conceals: it conceals losses as a browser does; aiortc itself does not.
        wants: more of its first offer: which persona answers, say.
        key: that it presents.
    """

    def __init__(
        self,
        page: str,
        tls: ssl.SSLContext | None = None,
        ice: RTCConfiguration | None = None,
        trickle: bool = False,
        conceals: bool = False,
        wants: dict[str, object] | None = None,
        key: str = "",
    ) -> None:
        self.page = page
        self._tls = tls
        self._ice = ice
        self._trickle = trickle
        self._conceals = conceals
        self._wants = wants or {}
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self.secret = ""
        self.microphone = Microphone()
        self.messages: list[dict[str, Any]] = []
        self.call_id = ""
        self.closed = asyncio.Event()
        self._heard: list[npt.NDArray[np.int16]] = []
        self.loud_at: list[float] = []  # monotonic time of each frame with sound in it
        self._peer = RTCPeerConnection()
        self._listening: asyncio.Task[None] | None = None

    async def call(self) -> None:
        """Places the call; raises httpx.HTTPStatusError when it is refused."""
        await self._connect(self._wants)

    async def come_back(self) -> None:
        """Takes the call up again on a new connection, as a page does that was reloaded; raises like `call`."""
        self.microphone = Microphone()
        await self._connect({"pc_id": self.secret, "restart_pc": True})

    async def _connect(self, more: dict[str, object]) -> None:
        peer = self._peer = RTCPeerConnection(self._ice)
        channel = peer.createDataChannel("rtvi")
        peer.addTrack(self.microphone)
        channel.on("message", self._message)
        peer.on("track", self._track)
        peer.on("connectionstatechange", lambda: self._state(peer))
        await peer.setLocalDescription(await peer.createOffer())
        sdp = peer.localDescription.sdp
        found = [line.removeprefix("a=") for line in sdp.splitlines() if line.startswith("a=candidate:")]
        if self._trickle:
            trickled = ("a=candidate:", "a=end-of-candidates")
            sdp = "".join(line for line in sdp.splitlines(True) if not line.startswith(trickled))
        offer = {"sdp": sdp, "type": "offer", **more}
        async with self._client() as client:
            response = await client.post(f"{self.page}/api/offer", json=offer)
            response.raise_for_status()
            answer = response.json()
            self.call_id, self.secret = answer["call_id"], answer["pc_id"]
            await peer.setRemoteDescription(RTCSessionDescription(answer["sdp"], "answer"))
            if self._trickle:
                candidates = [{"candidate": line, "sdp_mid": "0", "sdp_mline_index": 0} for line in [*found, ""]]
                body = {"pc_id": self.secret, "candidates": candidates}
                (await client.patch(f"{self.page}/api/offer", json=body)).raise_for_status()

    def _client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(timeout=WAIT_S, verify=self._tls or False, headers=self._headers)

    async def hang_up(self) -> None:
        """Says goodbye as the page does, and closes the connection."""
        if self.secret:
            with contextlib.suppress(httpx.HTTPError):  # the agent may have stopped
                async with self._client() as client:
                    await client.request("DELETE", f"{self.page}/api/offer", json={"pc_id": self.secret})
        await self.vanish()

    async def vanish(self) -> None:
        """Closes the connection without a goodbye."""
        await self._peer.close()
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.gather(self._listening, return_exceptions=True)

    def heard(self, since: int = 0) -> Waveform:
        """Everything heard so far at 16 kHz, from a sample on."""
        whole = np.concatenate(self._heard) if self._heard else np.zeros(0, np.int16)
        return (whole[since:] / 32768.0).astype(np.float32)

    @property
    def heard_samples(self) -> int:
        return sum(len(piece) for piece in self._heard)

    def captions(self) -> list[str]:
        """Complete texts of the bot, in order."""
        return [message["data"]["text"] for message in self.messages if message["type"] == "bot-transcription"]

    def of_type(self, kind: str) -> list[dict[str, Any]]:
        return [message for message in self.messages if message["type"] == kind]

    def latencies(self) -> list[dict[str, float]]:
        found = [message["data"] for message in self.of_type("server-message")]
        return [data["stages"] for data in found if data["type"] == "turn-latency"]

    async def until(self, condition: Callable[[], bool], what: str, seconds: float = WAIT_S) -> None:
        """Polls for a condition; fails with its name."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"not within {seconds} s: {what}; messages: {self.messages[-8:]}"
            await asyncio.sleep(0.02)

    async def bot_is_quiet(self) -> None:
        """Until the bot has said something and ended it."""
        await self.until(lambda: self._counts("bot-stopped-speaking") > 0, "the bot spoke")
        await self.until(
            lambda: self._counts("bot-stopped-speaking") >= self._counts("bot-started-speaking"), "the bot ended"
        )

    def _counts(self, kind: str) -> int:
        return len(self.of_type(kind))

    def _message(self, text: str) -> None:
        self.messages.append(json.loads(text))

    def _track(self, track: MediaStreamTrack) -> None:
        receiver = self._peer.getReceivers()[0]
        self._listening = asyncio.create_task(self._listen(CallerAudio(receiver) if self._conceals else track))

    async def _listen(self, track: MediaStreamTrack | CallerAudio) -> None:
        resampler = AudioResampler("s16", "mono", RATE)
        while True:
            frame = await track.recv()
            assert isinstance(frame, AudioFrame)
            for piece in resampler.resample(frame):
                samples = piece.to_ndarray()[0].astype(np.int16)
                self._heard.append(samples)
                if np.abs(samples.astype(np.int32)).max(initial=0) > 300:
                    self.loud_at.append(time.monotonic())

    def _state(self, peer: RTCPeerConnection) -> None:
        if peer is self._peer and peer.connectionState in ("closed", "failed"):
            self.closed.set()


@contextlib.asynccontextmanager
async def calling(page: str, **more: Any) -> AsyncIterator[Caller]:
    """A call that is hung up at the end; `more` as for `Caller`."""
    caller = Caller(page, **more)
    try:
        await caller.call()
        yield caller
    finally:
        await caller.hang_up()
