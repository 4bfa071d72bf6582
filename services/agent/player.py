"""Plays one answer: marks the decoder's PCM, resamples it to the leg's rate and sends its packets on the clock."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import numpy as np
import soxr

from services.agent import metrics
from services.agent.legs.base import PACKET_MS, OwnQueue
from services.agent.playback import Heard, Playback
from services.agent.watermark.code import Code
from services.agent.watermark.embed import Marker

LEAD_MS = 60  # packets run this far ahead of the clock: a stop is heard within it, where a leg cannot take them back


@dataclass(frozen=True)
class Media:
    """Where packets go once the leg is answered.

    Attributes:
        rate: of the packets' PCM, hertz.
        send: hands one packet to the transport.
        queue: what the leg itself knows of packets that wait in it, if it does.
    """

    rate: int
    send: Callable[[bytes], Awaitable[None]]
    queue: OwnQueue | None = None


class Player:
    """One answer on its way out. PCM may be pushed before there is a leg to play it on.

    Args:
        mark: the watermark that it bears; None for none.
    """

    def __init__(
        self,
        pcm_rate: int,
        clock: Callable[[], float],
        on_first_packet: Callable[[], None],
        mark: Code | None = None,
    ) -> None:
        self._pcm_rate = pcm_rate
        self._clock = clock
        self._on_first_packet = on_first_packet
        self._marker = Marker(mark, pcm_rate) if mark is not None else None
        self._early: list[tuple[bytes, int]] = []
        self._playback: Playback | None = None
        self._resampler: soxr.ResampleStream | None = None
        self._complete = False
        self._changed = asyncio.Event()
        self._heard: Heard | None = None
        self._first_sent = False
        self._queue: OwnQueue | None = None

    @property
    def audible(self) -> bool:
        """A packet has gone out, and it was not stopped."""
        return self._heard is None and self._first_sent

    def push(self, pcm: bytes, tokens_done: int) -> None:
        """Adds 16-bit PCM at the decoder's rate."""
        if self._playback is None:
            self._early.append((pcm, tokens_done))
        elif self._heard is None:
            self._playback.push(self._resample(pcm), tokens_done)
        self._changed.set()

    def complete(self) -> None:
        """No more PCM follows."""
        self._complete = True
        if self._playback is not None and self._heard is None:
            self._finish(self._playback)
        self._changed.set()

    def heard(self, delay_s: float = 0.0) -> Heard:
        """What was heard so far, as `stop` would tell it."""
        if self._heard is not None or self._playback is None:
            return self._heard or Heard(0, 0)
        return self._playback.heard(self._clock() - delay_s, self._queue.unsent_s() if self._queue else 0.0)

    def stop(self, delay_s: float = 0.0) -> Heard:
        """Sends nothing more and tells what was heard, if that is so long after a packet's time. Idempotent."""
        if self._heard is None:
            self._heard = Heard(0, 0)
            if self._playback is not None:
                self._heard = self._playback.stop(
                    self._clock() - delay_s, self._queue.unsent_s() if self._queue else 0.0
                )
            if self._queue is not None and self._first_sent:
                self._queue.drop_unsent()
        self._changed.set()
        return self._heard

    async def run(self, media: Media) -> None:
        """Sends packets until all is heard or it is stopped."""
        self._queue = media.queue
        lead_ms = LEAD_MS if media.queue is None else round(1000 * media.queue.lead_s)
        # Half of a longer lead goes out at once: one wake-up for several packets.
        refill_ms = max(LEAD_MS, lead_ms // 2)
        playback = self._playback = Playback(media.rate, PACKET_MS, lead_ms, refill_ms)
        self._resampler = soxr.ResampleStream(self._pcm_rate, media.rate, 1, dtype="int16")
        for pcm, tokens_done in self._early:
            playback.push(self._resample(pcm), tokens_done)
        self._early.clear()
        if self._complete:
            self._finish(playback)
        try:
            await self._send(playback, media)
        finally:
            if playback.gaps:
                metrics.PLAYBACK_GAPS.add(playback.gaps)
                metrics.PLAYBACK_GAP.add(playback.gap_s)

    async def _send(self, playback: Playback, media: Media) -> None:
        while self._heard is None:
            self._changed.clear()
            now = self._clock()
            for packet in playback.due(now):
                await media.send(packet)
                if not self._first_sent:
                    self._first_sent = True
                    self._on_first_packet()
                if self._heard is not None:
                    return
            if playback.finished(self._clock()):
                return
            wait = playback.wait_s(self._clock())
            if wait is None and self._complete:
                wait = playback.remaining_s(self._clock()) + 0.001
            await _event_or_timeout(self._changed, wait)

    def _finish(self, playback: Playback) -> None:
        tail = self._resample(b"", last=True)
        if tail:
            playback.push(tail, playback.last_tokens)
        playback.complete()

    def _resample(self, pcm: bytes, last: bool = False) -> bytes:
        assert self._resampler is not None
        samples = np.frombuffer(pcm, dtype=np.int16)
        if self._marker is not None:
            samples = self._marker.mark(samples, last)
        resampled = self._resampler.resample_chunk(samples, last=last)
        return bytes(np.asarray(resampled, dtype=np.int16).tobytes())


async def _event_or_timeout(event: asyncio.Event, seconds: float | None) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass
