"""Takes the bot's own voice out of the caller's audio: WebRTC's echo canceller (AEC3) with what is played as reference.

Both signals are put on one clock first. What is played sounds packet after packet, as every leg's output plays it; what
is heard is counted in samples, since it arrives in bursts on a busy machine. The canceller then finds the echo's delay
by itself, up to some 0.4 s.
"""

from collections import deque

import numpy as np
import numpy.typing as npt
from pywebrtc_audio import EchoCanceller

from services.agent.legs.base import INPUT_RATE, PACKET_MS
from services.agent.legs.rates import Converter, converter

Pcm = npt.NDArray[np.int16]

FRAME = INPUT_RATE // 100  # the canceller's own
DELAY = 128  # samples by which its output is late
HINT_DELAY = INPUT_RATE * 350 // 1000  # samples: later than most echoes, which are found first
HINT_SHIFT = 7  # 42 dB below what is played
NO_ECHO = 10**4.0  # times weaker is what is heard than what is played, where there is no echo that the VAD would hear
# Samples: a line without echo for so long is left as it is, for what the canceller takes of a voice. Longer than the
# latest echo that it could find, and short enough for a caller who interrupts the first sentence.
CLEAN = INPUT_RATE * 400 // 1000
CLEAN_KEPT = 2 * INPUT_RATE  # samples for which a caller may speak over the bot before that counts as echo
NOISE = 2.0  # times the line's own noise is noise still
NOISE_RISE = 1.004  # of the least power heard lately, from one piece of audio to the next: twice in 3.5 s
AUDIBLE = 100.0**2  # power of what is played, of 32768 squared
POWER_SHARE = 0.1  # of a frame in the averages, which so reach back some 0.2 s
TAIL = INPUT_RATE // 2  # samples for which an echo may follow what was played
KEPT = 2 * INPUT_RATE  # samples of what was played that are kept while nothing is heard, as on hold
SLACK = INPUT_RATE * 40 // 1000  # samples by which the leg's own count may differ, which goes by packets
LATE = INPUT_RATE * 20 // 1000  # samples by which audio may arrive late before its clock is set anew
LATE_FRAMES = 50  # for so many frames in a row
PACKET = INPUT_RATE * PACKET_MS // 1000


class PlayedLine:
    """What sounds at the caller's end, by our clock: packets one after another, each not before it was sent. Pure."""

    def __init__(self) -> None:
        self._pieces: deque[tuple[int, Pcm]] = deque()  # (first sample's place on the clock, samples)
        self._end = 0
        self._rate = INPUT_RATE
        self._converter: Converter = converter(INPUT_RATE, INPUT_RATE)

    @property
    def end(self) -> int:
        """Where the last of it ends, samples on the clock."""
        return self._end

    def packet(self, now: float, pcm: bytes, rate: int, unsent_s: float = 0.0) -> None:
        """16-bit mono PCM of `rate` hertz goes to the leg now, behind what went before.

        Args:
            unsent_s: how much the leg knows to wait in it, if it does: on a busy machine its clock falls behind.
        """
        if rate != self._rate:
            self._rate, self._converter = rate, converter(rate, INPUT_RATE)
        samples = self._converter.convert(np.frombuffer(pcm, dtype=np.int16))
        begin = max(place(now), self._end)
        if place(now + unsent_s) > begin + SLACK:
            begin = place(now + unsent_s)
        self._forget(place(now) - KEPT)
        self._pieces.append((begin, samples))
        self._end = begin + len(samples)

    def drop_unheard(self, now: float) -> None:
        """The leg drops what it has not played yet, but for the packet that is under way."""
        until = place(now) + PACKET
        while self._pieces and self._pieces[-1][0] >= until:
            self._pieces.pop()
        if self._pieces:
            begin, samples = self._pieces.pop()
            self._pieces.append((begin, samples[: until - begin]))
        self._end = min(self._end, until)

    def take(self, begin: int, count: int) -> Pcm:
        """Samples that sound from `begin` on, zeros where none do; all before is forgotten."""
        found = np.zeros(count, np.int16)
        self._forget(begin)
        for start, samples in self._pieces:
            if start >= begin + count:
                break
            source = max(0, begin - start)
            target = max(0, start - begin)
            length = min(len(samples) - source, count - target)
            found[target : target + length] = samples[source : source + length]
        return found

    def _forget(self, before: int) -> None:
        while self._pieces and self._pieces[0][0] + len(self._pieces[0][1]) <= before:
            self._pieces.popleft()


class HeardClock:
    """Where on the clock audio was heard that arrives in uneven pieces. Pure.

    Audio cannot arrive before it was heard, so the earliest arrival sets the clock; one that is late again and again
    has lost audio before it (a hold, lost packets) and sets it anew.
    """

    def __init__(self) -> None:
        self._next: int | None = None
        self._lateness: deque[int] = deque(maxlen=LATE_FRAMES)

    def begin(self, now: float, count: int) -> int:
        """The place of the first of `count` samples that arrive now and follow those before."""
        arrived = place(now) - count
        if self._next is None or arrived < self._next:
            self._next = arrived
            self._lateness.clear()
        else:
            self._lateness.append(arrived - self._next)
            if len(self._lateness) == LATE_FRAMES and min(self._lateness) > LATE:
                self._next += min(self._lateness)
                self._lateness.clear()
        begin = self._next
        self._next += count
        return begin


class EchoRemover:
    """One caller's audio without the bot's voice, 8 ms late. While nothing of the bot can be in it, it stays as it is.

    Args:
        played: what the caller's end plays.
    """

    def __init__(self, played: PlayedLine) -> None:
        self._played = played
        self._clock = HeardClock()
        self._canceller = EchoCanceller(INPUT_RATE)
        self._pending = np.zeros(0, np.int16)  # less than a frame
        self._latest = np.zeros(DELAY, np.int16)
        self._hint = np.zeros(HINT_DELAY, np.int16)
        self._near_power = self._far_power = 0.0
        self._noise = np.inf  # the least power heard lately: a noisy line has no echo for that
        self._clean = 0  # samples for which the bot was heard to leave no echo, less those for which it may have

    def remove(self, now: float, pcm: bytes) -> bytes:
        """Takes 16-bit mono PCM at `INPUT_RATE` that arrives now; gives whole frames of 10 ms.

        While the bot speaks, 20 ms of audio take some 0.3 ms.
        """
        near = np.concatenate([self._pending, np.frombuffer(pcm, dtype=np.int16)])
        begin = self._clock.begin(now, len(pcm) // 2) - len(self._pending)
        count = len(near) // FRAME * FRAME
        near, self._pending = near[:count], near[count:]
        if not count:
            return b""
        delayed = np.concatenate([self._latest, near])
        self._latest = delayed[count:]
        far = self._played.take(begin, count)
        hint = self._faint_echo(near, far)
        if begin > self._played.end + TAIL or self._clean >= CLEAN:
            return delayed[:count].tobytes()
        return np.asarray(self._canceller.process(_sum(near, hint), far), dtype=np.int16).tobytes()

    def _faint_echo(self, near: Pcm, far: Pcm) -> Pcm:
        """An echo of our own, for a line that has none.

        There the canceller finds no path, expects the worst, and mutes the caller while the bot speaks; this one gives
        it a path to find. Where there is an echo it would only be in the way.
        """
        self._hint = np.concatenate([self._hint, far >> HINT_SHIFT])
        hint, self._hint = self._hint[: len(far)], self._hint[len(far) :]
        power = _power(near)
        self._noise = min(max(1.0, self._noise) * NOISE_RISE, power)
        self._near_power += (power - self._near_power) * POWER_SHARE
        self._far_power += (_power(far) - self._far_power) * POWER_SHARE
        if self._far_power < AUDIBLE:
            return np.zeros_like(hint)
        if self._near_power < self._far_power / NO_ECHO + NOISE * self._noise:
            self._clean = min(CLEAN_KEPT, self._clean + len(far))
            return hint
        self._clean = max(0, self._clean - len(far))
        return np.zeros_like(hint)


def _power(samples: Pcm) -> float:
    return float(np.mean(samples.astype(np.float64) ** 2))


def _sum(a: Pcm, b: Pcm) -> Pcm:
    return np.asarray(np.clip(a.astype(np.int32) + b, -32768, 32767), dtype=np.int16)


def place(now: float) -> int:
    """A moment in samples of `INPUT_RATE`."""
    return round(now * INPUT_RATE)
