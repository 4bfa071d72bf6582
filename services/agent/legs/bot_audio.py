"""The bot's audio for a WebRTC caller: sent when it is there, and encoded here, with forward error correction.

aiortc's encoder knows no error correction, and pipecat's track paces a second time what the player has paced already:
what comes late once stays late there until the answer ends.
"""

import asyncio
import fractions
import time
from collections.abc import Callable
from typing import cast

from aiortc import MediaStreamTrack
from aiortc.mediastreams import MediaStreamError
from av.audio.stream import AudioStream
from av.packet import Packet

from services.agent.legs.opus import OpusEncoder

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
        self._encoder = OpusEncoder(RATE, BIT_RATE, EXPECTED_LOSS)

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
        await self._due()
        if self.readyState != "live":
            raise MediaStreamError
        packet = cast("Packet[AudioStream]", Packet(self._next_payload()))
        packet.pts, packet.time_base = self._sent, TIME_BASE
        self._sent += PACKET_SAMPLES
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

    def _next_payload(self) -> bytes:
        """To encode speech takes 0.24 ms, which is less than to have a thread do it; and a packet need not wait for it.

        Any packet can follow any other (RFC 6716 section 4), so one of silence is sent for all that follow it.
        """
        pcm = bytes(self._pcm[:PACKET_BYTES])
        del self._pcm[:PACKET_BYTES]
        self._silent = 0 if pcm else self._silent + 1
        if self._silent > SETTLED and self._silence:
            return self._silence
        payload = self._encoder.encode(pcm.ljust(PACKET_BYTES, b"\0"))
        if self._silent >= SETTLED:
            self._silence = payload
        return payload
