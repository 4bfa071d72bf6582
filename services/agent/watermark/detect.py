"""Finds the watermark of a key in audio, and says how likely it would be found where it is not. Pure.

In each window of five seconds, the level of every patch (a log, above the line's noise) is compared with its opposite:
the pair's other band, the cell's other half. These differences A are correlated with the key's signs at every shift.

Where the mark is not, A is whatever the audio makes it, but has nothing to do with the signs, which are as good as
drawn by coin: the sum of sign times A has no mean and the norm of A as its deviation, whatever the audio. For such sums
P(sum >= x norm) <= 3.18 P(N(0, 1) >= x) holds for any A and x (Bentkus & Dzindzalieva 2015, "A tight Gaussian bound for
weighted sums of Rademacher random variables"). So the p-value rests on no model of speech, music or noise, and on no
threshold that was tried out. It is multiplied by all windows, shifts and channels that were looked at (Bonferroni).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import soxr

from services.agent.watermark.code import CELLS, HALF_S, PAIRS, Code, band_of

Floats = npt.NDArray[np.float64]

RATE = 8_000  # hertz; all of the mark lies below 3.4 kHz
ALPHA = 1e-6  # a file without the mark is taken for one with it no oftener
WINDOW_S = 5.0
SHORTEST_S = 1.0
_STEP_S = 1.0
_FRAME, _HOP = 192, 40  # samples: 24 and 5 ms
_HALF = round(HALF_S * RATE) // _HOP  # frames
_CELL = 2 * _HALF
SHIFTS = CELLS * _CELL
_DEEPEST_DB = 40.0  # below the loudest, speech does not tell
_NOISE_SHARE, _NOISE_FACTOR = 20.0, 6.0  # the line's noise: what a fifth of a bin's frames stay below, and 8 dB more
_STRAY = 4.0  # deviations beyond which a difference counts no more
_RADEMACHER = 3.18  # rounded up from 3.178


@dataclass(frozen=True)
class Span:
    """Where the mark was found: seconds from the start, and the channel, counted from 0."""

    start_s: float
    end_s: float
    channel: int


@dataclass(frozen=True)
class Finding:
    """What was found in a recording.

    Attributes:
        p_value: the probability of as clear a find, or a clearer one, in audio that was made without the key.
        spans: windows that are certain by themselves, joined where they overlap; empty when the mark was not found.
    """

    found: bool
    p_value: float
    spans: tuple[Span, ...]


def detect(audio: Floats | npt.NDArray[np.float32], rate: int, code: Code, alpha: float = ALPHA) -> Finding:
    """Looks for the mark.

    Args:
        audio: shape (samples,) or (samples, channels); channels are looked at one by one.
        rate: hertz, at least 8000.
        alpha: the p-value up to which it counts as found.

    Raises:
        ValueError: too short, or the rate too low.
    """
    if rate < RATE:
        raise ValueError(f"sampled at {rate} Hz: at least {RATE} are needed")
    channels = np.atleast_2d(np.asarray(audio, np.float64).T)
    if channels.shape[1] < SHORTEST_S * rate:
        raise ValueError(f"{channels.shape[1] / rate:.2f} s long: at least {SHORTEST_S:g} s are needed")
    scores = [
        (start_s, end_s, channel, score)
        for channel, samples in enumerate(channels)
        for start_s, end_s, score in _windows(soxr.resample(samples, rate, RATE), code)
    ]
    tried = len(scores) * SHIFTS
    clear = [(start_s, end_s, channel) for start_s, end_s, channel, z in scores if p_value(z, tried) <= alpha]
    best = p_value(max(z for *_, z in scores), tried)
    return Finding(bool(clear), best, tuple(_joined(clear)))


def p_value(score: float, tried: int) -> float:
    """Bound on the probability that the best of so many scores is as high by chance."""
    return min(1.0, tried * _RADEMACHER * 0.5 * math.erfc(score / math.sqrt(2)))


def differences(samples: Floats) -> Floats:
    """Each pair's difference, between its halves, for a cell that begins at each frame; shape (cells, PAIRS).

    Args:
        samples: a window at `RATE`, at least a frame and a cell; shape (n,).
    """
    patches = _patches(samples)
    pairs = patches[:, 0::2] - patches[:, 1::2]
    sums = np.concatenate([np.zeros((1, PAIRS)), np.cumsum(pairs, axis=0)])
    halves = (sums[_HALF:] - sums[:-_HALF]) / _HALF
    found = halves[:-_HALF] - halves[_HALF:]
    size = np.abs(found)
    heard = size[size.sum(1) > 1e-6]
    if not heard.size:
        return np.zeros_like(found)
    limit = _STRAY * 1.4826 * float(np.median(heard))  # the deviation, from the median of what is normally distributed
    return np.asarray(np.clip(found, -limit, limit))


def scores(compared: Floats, code: Code) -> Floats:
    """One window's score at each shift of the pattern, shape (SHIFTS,), in standard deviations.

    Args:
        compared: its `differences`.
    """
    spectrum = np.fft.rfft(code.signs, axis=0)
    found = np.zeros(SHIFTS)
    for first in range(_CELL):
        cells = compared[first::_CELL]
        folded = np.zeros((-(-len(cells) // CELLS) * CELLS, PAIRS))
        folded[: len(cells)] = cells
        folded = folded.reshape(-1, CELLS, PAIRS).sum(0)
        norm = math.sqrt(float((folded**2).sum()))
        if norm > 0:
            sums = np.fft.irfft((np.conj(np.fft.rfft(folded, axis=0)) * spectrum).sum(1), CELLS)
            found[first::_CELL] = sums / norm
    return found


def _windows(samples: Floats, code: Code) -> Iterator[tuple[float, float, float]]:
    """Start and end in seconds, and the best score, of each window."""
    length, step = round(WINDOW_S * RATE), round(_STEP_S * RATE)
    last = max(0, len(samples) - length)
    for start in sorted({*range(0, last + 1, step), last}):
        window = samples[start : start + length]
        yield start / RATE, (start + len(window)) / RATE, float(scores(differences(window), code).max())


def _patches(samples: Floats) -> Floats:
    """Level of each frame and band in decibels, shape (frames, 2 PAIRS)."""
    frames = np.lib.stride_tricks.sliding_window_view(samples, _FRAME)[::_HOP]
    bands = band_of(np.arange(_FRAME // 2 + 1) * RATE / _FRAME)
    inside = bands >= 0
    power = np.abs(np.fft.rfft(frames * np.hanning(_FRAME + 1)[:-1])[:, inside]) ** 2
    noise = _NOISE_FACTOR * np.percentile(power, _NOISE_SHARE, axis=0)
    floor = np.maximum(noise, np.percentile(power, 98) * 10 ** (-_DEEPEST_DB / 10))
    if not floor.any():
        return np.zeros((len(frames), 2 * PAIRS))
    level = 10 * np.log10(power + floor + power.max() * 1e-12)
    return np.stack([level[:, bands[inside] == band].mean(1) for band in range(2 * PAIRS)], axis=1)


def _joined(spans: list[tuple[float, float, int]]) -> Iterator[Span]:
    open_span: Span | None = None
    for start_s, end_s, channel in spans:
        if open_span is not None and open_span.channel == channel and start_s <= open_span.end_s:
            open_span = Span(open_span.start_s, end_s, channel)
            continue
        if open_span is not None:
            yield open_span
        open_span = Span(start_s, end_s, channel)
    if open_span is not None:
        yield open_span
