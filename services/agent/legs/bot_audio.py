"""The bot's audio for a WebRTC caller: sent when it is there, and encoded here, with forward error correction.

aiortc's encoder knows no error correction, and pipecat's track paces a second time what the player has paced already:
what comes late once stays late there until the answer ends.
"""

import asyncio
import fractions
import time
from collections.abc import Callable
from typing import cast

import numpy as np
from aiortc import MediaStreamTrack
from aiortc.mediastreams import MediaStreamError
from av import AudioCodecContext, AudioFrame
from av.audio.stream import AudioStream
from av.packet import Packet

BIT_RATE = 40_000  # bits a second of one voice, its error correction included
EXPECTED_LOSS = 5  # percent; it decides how much goes into error correction (RFC 7587 section 3.3)
RATE = 48_000
PACKET_SAMPLES = RATE // 50
PACKET_BYTES = PACKET_SAMPLES * 2
HELD_UP_S = 0.1  # silence this late is left out
SETTLED = 10  # packets of silence after which the encoder makes the same one again and again
TIME_BASE = fractions.Fraction(1, RATE)


class BotAudio(MediaStreamTrack):
    """Takes 48 kHz mono PCM, yields Opus packets of 20 ms, which aiortc sends as they are; silence in between.

    Args:
        clock: steady, seconds.
    """

    kind = "audio"

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._start = clock()
        self._sent = 0  # samples
        self._pcm = bytearray()
        self._written = asyncio.Event()
        self._silent = 0  # packets of silence in a row
        self._silence = b""  # one of them, once settled: to encode silence costs as much as speech
        codec = AudioCodecContext.create("libopus", "w")
        codec.sample_rate, codec.layout, codec.format, codec.bit_rate = RATE, "mono", "s16", BIT_RATE
        codec.time_base = TIME_BASE
        codec.options = {"application": "voip", "frame_duration": "20", "fec": "1", "packet_loss": str(EXPECTED_LOSS)}
        self._codec = codec

    def write(self, pcm: bytes) -> bool:
        """Sends 16-bit PCM as soon as aiortc asks for it; False when nobody will."""
        if self.readyState != "live":
            return False
        self._pcm += pcm
        self._written.set()
        return True

    def flush(self) -> None:
        """Drops what was not sent."""
        self._pcm.clear()

    async def recv(self) -> "Packet[AudioStream]":
        """The next packet.

        Raises:
            MediaStreamError: it was stopped.
        """
        while True:
            await self._due()
            if self.readyState != "live":
                raise MediaStreamError
            self._silent = 0 if self._pcm else self._silent + 1
            packet = self._same_silence() or await self._encoded()
            if packet is not None:
                packet.pts, packet.time_base = self._sent - PACKET_SAMPLES, TIME_BASE
                return packet

    def stop(self) -> None:
        """Sends no more."""
        super().stop()
        self._pcm.clear()
        self._written.set()

    async def _due(self) -> None:
        """Until there is a packet of audio, or it is time for one of silence."""
        while len(self._pcm) < PACKET_BYTES:
            self._written.clear()
            wait = self._start + self._sent / RATE - self._clock()
            if wait < -HELD_UP_S:
                self._start -= wait
            try:
                async with asyncio.timeout(max(0.0, wait)):
                    await self._written.wait()
            except TimeoutError:
                return
            if self.readyState != "live":
                return

    def _same_silence(self) -> "Packet[AudioStream] | None":
        """Any packet can follow any other (RFC 6716 section 4), so one of silence can be sent for all of them."""
        if self._silent <= SETTLED or not self._silence:
            return None
        self._sent += PACKET_SAMPLES
        return cast("Packet[AudioStream]", Packet(self._silence))

    async def _encoded(self) -> "Packet[AudioStream] | None":
        loop = asyncio.get_running_loop()
        packets = await loop.run_in_executor(None, self._codec.encode, self._next_frame())
        if self._silent == SETTLED:
            self._silence = bytes(packets[0]) if packets else b""
        return packets[0] if packets else None

    def _next_frame(self) -> AudioFrame:
        pcm = bytes(self._pcm[:PACKET_BYTES]).ljust(PACKET_BYTES, b"\0")
        del self._pcm[:PACKET_BYTES]
        frame = AudioFrame.from_ndarray(np.frombuffer(pcm, np.int16)[None, :], format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = RATE, self._sent, TIME_BASE
        self._sent += PACKET_SAMPLES
        return frame
