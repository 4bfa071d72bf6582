"""The bot's audio for a WebRTC caller: encoded here, with forward error correction, as aiortc's own encoder cannot."""

import asyncio
import fractions

import numpy as np
from aiortc import MediaStreamTrack
from av import AudioCodecContext, AudioFrame
from av.audio.stream import AudioStream
from av.packet import Packet

BIT_RATE = 40_000  # bits a second of one voice, its error correction included
EXPECTED_LOSS = 5  # percent; it decides how much goes into error correction (RFC 7587 section 3.3)
RATE = 48_000
PACKET_SAMPLES = RATE // 50
DRAIN_FRAMES = 50
TIME_BASE = fractions.Fraction(1, RATE)


class BotAudio(MediaStreamTrack):
    """Reads pieces of 48 kHz mono PCM from a track, yields Opus packets of 20 ms, which aiortc sends as they are."""

    kind = "audio"

    def __init__(self, pcm: MediaStreamTrack) -> None:
        super().__init__()
        self._pcm = pcm
        self._pieces: list[np.ndarray[tuple[int, ...], np.dtype[np.int16]]] = []
        self._sent = 0
        self._draining: asyncio.Task[None] | None = None
        codec = AudioCodecContext.create("libopus", "w")
        codec.sample_rate, codec.layout, codec.format, codec.bit_rate = RATE, "mono", "s16", BIT_RATE
        codec.time_base = TIME_BASE
        codec.options = {"application": "voip", "frame_duration": "20", "fec": "1", "packet_loss": str(EXPECTED_LOSS)}
        self._codec = codec

    async def recv(self) -> "Packet[AudioStream]":
        """The next packet, when its PCM is there."""
        while True:
            while sum(map(len, self._pieces)) < PACKET_SAMPLES:
                frame = await self._pcm.recv()
                assert isinstance(frame, AudioFrame)
                self._pieces.append(frame.to_ndarray()[0])
            samples = np.concatenate(self._pieces)
            self._pieces = [samples[PACKET_SAMPLES:]]
            frame = AudioFrame.from_ndarray(samples[None, :PACKET_SAMPLES], format="s16", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = RATE, self._sent, TIME_BASE
            packets = await asyncio.get_running_loop().run_in_executor(None, self._codec.encode, frame)
            if packets:
                packet = packets[0]
                packet.pts, packet.time_base = self._sent, TIME_BASE
                self._sent += PACKET_SAMPLES
                return packet
            self._sent += PACKET_SAMPLES

    def stop(self) -> None:
        """Sends no more. Whoever still waits for a piece of PCM to be sent is released."""
        if self.readyState == "live":
            self._draining = asyncio.create_task(self._drain(), name="bot-audio-drain")
        super().stop()

    async def _drain(self) -> None:
        # pipecat waits until a piece is read, for ever when its reader is gone.
        for _ in range(DRAIN_FRAMES):
            await self._pcm.recv()
        self._pcm.stop()
