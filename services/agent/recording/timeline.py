"""Both sides of a call on one clock, as stereo: the caller left, the bot right. Pure: time and audio are passed in.

What is handed out trails the clock, which leaves room for two corrections that cannot be made in a file:
- the caller's frames arrive late by varying amounts and their clock is not ours, so where a frame belongs is known only
  from those that follow it;
- the bot's packets leave ahead of their time, and what an interruption drops was never heard.
"""

from collections import deque
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

Pcm = npt.NDArray[np.int16]

HOLD_S = 2.5  # what is handed out trails the clock by this, unless told otherwise
SETTLE_S = 1.5  # frames of this long decide together where the first of them belongs, unless told otherwise
TOLERANCE_S = 0.01  # half a packet: a smaller offset between the caller's clock and ours is left alone
GAP_S = 0.25  # at the end, where few frames follow, only this much is a gap
BLOCK_S = 1.0  # longest block handed out
AHEAD_S = 5.0  # audio this far ahead of the clock is not a phone call's


class Timeline:
    """One call's audio. Positions are samples since `start`; all times are of one monotonic clock, seconds.

    Args:
        rate: of all PCM, hertz.
        start: time of the first sample.
        hold_s: what is handed out trails the clock by this; more than `settle_s`, and than packets run ahead.
        settle_s: frames of this long decide together where the first of them belongs: less of it is sooner, and leaves
            more seams where the network jitters.
    """

    def __init__(self, rate: int, start: float, hold_s: float = HOLD_S, settle_s: float = SETTLE_S) -> None:
        self.rate = rate
        self._start = start
        self._hold_s = hold_s
        self._settle_s = settle_s
        self._caller = _Arrivals(rate)
        self._bot = _Playout(rate)
        self._pauses: deque[tuple[int, int | None]] = deque()
        self._done = 0  # samples handed out

    @property
    def paused(self) -> bool:
        """Nothing is recorded now."""
        return bool(self._pauses) and self._pauses[-1][1] is None

    def caller(self, now: float, pcm: Pcm) -> None:
        """Audio of the caller, its last sample heard at `now` or a little before."""
        if self.paused:  # however late it comes, and thus however early it belongs
            pcm = np.zeros_like(pcm)
        self._caller.add(self._position(now), pcm)
        self._settle(now)

    def bot(self, now: float, pcm: Pcm) -> None:
        """A packet that went out at `now`, to be heard after those before it."""
        self._bot.add(self._position(now), pcm)

    def interrupt(self, now: float) -> None:
        """What the bot would have said after `now` is not heard."""
        self._bot.cut(self._position(now))

    def pause(self, now: float) -> None:
        """Silence in both channels from now on. Idempotent."""
        if not self.paused:
            self._pauses.append((max(self._done, self._position(now)), None))

    def resume(self, now: float) -> None:
        """Ends a pause. Idempotent."""
        if self.paused:
            begin, _ = self._pauses.pop()
            self._pauses.append((begin, max(begin, self._position(now))))

    def backlog_s(self, now: float) -> float:
        """Seconds that are due and were not taken."""
        return max(0.0, (self._position(now) - self._done) / self.rate - self._hold_s)

    def take(self, now: float) -> Iterator[Pcm]:
        """What is certain by now, in order: blocks of shape (samples, 2), at most `BLOCK_S` long."""
        self._settle(now)
        yield from self._render(self._position(now - self._hold_s))

    def close(self, now: float) -> Iterator[Pcm]:
        """The rest, up to `now`."""
        self._bot.cut(self._position(now))
        self._caller.settle(self._position(now), int(GAP_S * self.rate))
        yield from self._render(self._position(now))

    def _settle(self, now: float) -> None:
        self._caller.settle(self._position(now - self._settle_s), int(TOLERANCE_S * self.rate))

    def _render(self, end: int) -> Iterator[Pcm]:
        while self._done < end:
            upto = min(end, self._done + int(BLOCK_S * self.rate))
            block = np.zeros((upto - self._done, 2), np.int16)
            self._caller.placed.draw(self._done, block[:, 0])
            self._bot.placed.draw(self._done, block[:, 1])
            for begin, stop in self._pauses:
                last = upto if stop is None else stop
                block[max(0, begin - self._done) : max(0, last - self._done)] = 0
            self._done = upto
            while self._pauses and (over := self._pauses[0][1]) is not None and over <= upto:
                self._pauses.popleft()
            yield block

    def _position(self, time: float) -> int:
        return max(0, round((time - self._start) * self.rate))


class _Track:
    """Pieces of one channel, in order and without overlap; what is between them is silence."""

    def __init__(self) -> None:
        self._pieces: deque[tuple[int, Pcm]] = deque()
        self.end = 0

    def put(self, at: int, pcm: Pcm) -> None:
        """Places a piece; what would overlap the one before it is left out."""
        pcm = pcm[max(0, self.end - at) :]
        if len(pcm):
            at = max(at, self.end)
            self._pieces.append((at, pcm))
            self.end = at + len(pcm)

    def cut(self, end: int) -> None:
        """Forgets everything from `end` on."""
        while self._pieces and self._pieces[-1][0] >= end:
            self._pieces.pop()
        if self._pieces:
            at, pcm = self._pieces.pop()
            self._pieces.append((at, pcm[: end - at]))
        self.end = min(self.end, end)

    def draw(self, begin: int, onto: Pcm) -> None:
        """Copies the samples from `begin` on onto an array, and forgets them."""
        end = begin + len(onto)
        while self._pieces and self._pieces[0][0] < end:
            at, pcm = self._pieces.popleft()
            seen = pcm[max(0, begin - at) : end - at]
            first = max(0, at - begin)
            onto[first : first + len(seen)] = seen
            if at + len(pcm) > end:
                self._pieces.appendleft((end, pcm[end - at :]))


class _Arrivals:
    """A stream that comes over a network, by the clock of its far end.

    A frame may be late but never early: while it settles the least late one tells where the stream stands. While that
    stays within the tolerance, frames follow each other without a seam; else a gap is filled, or an excess left out.
    """

    def __init__(self, rate: int) -> None:
        self._most = int(AHEAD_S * rate)
        self._waiting: deque[tuple[int, int, Pcm]] = deque()  # arrival, samples counted before it, the frame
        self._least: deque[tuple[int, int]] = deque()  # (arrival, arrival less count), rising: a sliding minimum
        self._counted = 0
        self._offset: int | None = None  # where sample 0 of the stream stands
        self.placed = _Track()

    def add(self, arrival: int, pcm: Pcm) -> None:
        if self._waiting and self._counted + len(pcm) - self._waiting[0][1] > self._most:
            return  # no clock is that fast
        self._waiting.append((arrival, self._counted, pcm))
        self._counted += len(pcm)
        late = arrival - self._counted
        while self._least and self._least[-1][1] >= late:
            self._least.pop()
        self._least.append((arrival, late))

    def settle(self, arrived: int, tolerance: int) -> None:
        """Places the frames that arrived by then, as those after them tell."""
        while self._waiting and self._waiting[0][0] <= arrived:
            arrival, before, pcm = self._waiting.popleft()
            while self._least[0][0] < arrival:
                self._least.popleft()
            where = self._least[0][1]
            if self._offset is None or abs(where - self._offset) > tolerance:
                self._offset = where
            self.placed.put(before + self._offset, pcm)


class _Playout:
    """Packets that leave a little ahead of time and are heard one after the other."""

    def __init__(self, rate: int) -> None:
        self._most = int(AHEAD_S * rate)
        self.placed = _Track()

    def add(self, sent: int, pcm: Pcm) -> None:
        if self.placed.end - sent <= self._most:
            self.placed.put(max(sent, self.placed.end), pcm)

    def cut(self, end: int) -> None:
        self.placed.cut(end)
