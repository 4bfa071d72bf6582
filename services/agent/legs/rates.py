"""Changes the sample rate of a live stream of 16-bit mono PCM, piece by piece and without seams."""

import math
from typing import Protocol

import numpy as np
import numpy.typing as npt
import soxr

Pcm = npt.NDArray[np.int16]
Floats = npt.NDArray[np.float64]

HALF_WIDTH = 16  # zero crossings of the sinc on each side: 2 ms of delay at 8 kHz
PASSBAND = 0.92  # of the lower rate's half: 3.7 kHz of a telephone channel
KAISER_BETA = 7.0  # 70 dB down beyond the transition


class Converter(Protocol):
    """One stream."""

    def convert(self, samples: Pcm) -> Pcm:
        """The next piece. It may hold back a little, which then comes with the piece after it."""


def converter(from_rate: int, to_rate: int) -> Converter:
    """The quickest converter between two rates, hertz.

    soxr looks ahead 25 to 100 ms, which a caller would wait for at every turn. A short windowed sinc is enough for the
    whole ratios that telephone codecs need, and looks ahead 2 ms.
    """
    if from_rate == to_rate:
        return _Same()
    if to_rate % from_rate == 0:
        return _Up(to_rate // from_rate)
    if from_rate % to_rate == 0:
        return _Down(from_rate // to_rate)
    return _Any(from_rate, to_rate)


class _Same:
    def convert(self, samples: Pcm) -> Pcm:
        return samples


class _Up:
    """By a whole factor: each output phase has its own taps."""

    def __init__(self, factor: int) -> None:
        taps = _low_pass(factor) * factor
        self._phases = [taps[phase::factor] for phase in range(factor)]
        self._factor = factor
        self._history: Floats = np.zeros(len(self._phases[0]) - 1)

    def convert(self, samples: Pcm) -> Pcm:
        if not len(samples):
            return samples
        stream = np.concatenate([self._history, samples])
        output = np.empty((len(samples), self._factor))
        for phase, taps in enumerate(self._phases):  # the first one has a tap more than the others
            output[:, phase] = np.convolve(stream[len(self._phases[0]) - len(taps) :], taps, "valid")
        self._history = stream[len(samples) :]
        return _rounded(output.ravel())


class _Down:
    """By a whole factor."""

    def __init__(self, factor: int) -> None:
        self._taps = _low_pass(factor)
        self._factor = factor
        self._history: Floats = np.zeros(len(self._taps) - 1)
        self._skip = 0  # filtered samples until the next one that is kept

    def convert(self, samples: Pcm) -> Pcm:
        if not len(samples):
            return samples
        stream = np.concatenate([self._history, samples])
        kept = np.convolve(stream, self._taps, "valid")[self._skip :: self._factor]
        self._skip = (self._skip - len(samples)) % self._factor
        self._history = stream[len(samples) :]
        return _rounded(kept)


class _Any:
    def __init__(self, from_rate: int, to_rate: int) -> None:
        self._stream = soxr.ResampleStream(from_rate, to_rate, 1, dtype="int16", quality="MQ")

    def convert(self, samples: Pcm) -> Pcm:
        return np.asarray(self._stream.resample_chunk(samples), dtype=np.int16)


def _low_pass(factor: int) -> Floats:
    """Windowed sinc at the higher of two rates that passes what both can carry; its taps sum to one."""
    half = HALF_WIDTH * factor
    cutoff = (1 + PASSBAND) / 2 / factor  # the middle of the transition, as a share of the higher rate's half
    positions = np.arange(-half, half + 1)
    taps = np.sinc(cutoff * positions) * np.kaiser(2 * half + 1, KAISER_BETA)
    return np.asarray(taps / math.fsum(taps))


def _rounded(samples: Floats) -> Pcm:
    return np.asarray(np.rint(samples).clip(-32768, 32767), dtype=np.int16)
