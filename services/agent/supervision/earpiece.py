"""One listener's end: stereo audio in pieces, which it takes when it will, and the newest of it when it is late."""

import asyncio
from collections import deque

import numpy as np

from services.agent.recording.timeline import Pcm

BACKLOG_S = 2.0  # audio that waits for a slow listener; then it is dropped
GAP_S = 0.2  # silence that stands for what was dropped
FRAME_BYTES = 4  # a sample of both channels


class Earpiece:
    """Iterate it for bytes: 16-bit PCM, left and right in turn, highest byte first (RFC 3551 section 4.5.11).

    Putting never waits, and what waits to be taken is bounded.

    Args:
        rate: of the audio, hertz.
    """

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._most = int(BACKLOG_S * rate)
        self._gap = bytes(int(GAP_S * rate) * FRAME_BYTES)
        self._waiting: deque[bytes] = deque()
        self._samples = 0
        self._changed = asyncio.Event()
        self._closed = False
        self._dropped = 0  # samples

    @property
    def dropped_s(self) -> float:
        """Seconds of audio that its listener was too slow for."""
        return self._dropped / self._rate

    def put(self, block: Pcm) -> None:
        """Takes a block of shape (samples, 2)."""
        if self._closed:
            return
        if self._samples + len(block) > self._most:
            self._dropped += self._samples
            self._waiting.clear()
            self._waiting.append(self._gap)
            self._samples = len(self._gap) // FRAME_BYTES
        self._waiting.append(np.ascontiguousarray(block, ">i2").tobytes())
        self._samples += len(block)
        self._changed.set()

    def close(self) -> None:
        """Ends the iteration after what waits. Idempotent."""
        self._closed = True
        self._changed.set()

    def __aiter__(self) -> "Earpiece":
        return self

    async def __anext__(self) -> bytes:
        while not self._waiting:
            if self._closed:
                raise StopAsyncIteration
            self._changed.clear()
            await self._changed.wait()
        piece = b"".join(self._waiting)
        self._waiting.clear()
        self._samples = 0
        return piece
