"""The same words in another manner or another voice: rate, pitch, its range, formants and level of a recording.

By analysis and synthesis with WORLD (Morise et al. 2016): the judge hears its output as well as the recording. Timing
changes by `rate` alone, so that with `rate` 1 the result lies sample for sample beside the recording.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random

import numpy as np
import numpy.typing as npt
import pyworld

from training.domain.sentences import Style

Waveform = npt.NDArray[np.float32]

LOWEST_HZ, HIGHEST_HZ = 70.0, 450.0
_PERIOD_MS = 5.0
_LOUDEST = 0.98


@dataclass(frozen=True)
class Manner:
    """How a recording is changed; ratios to it, and decibels."""

    rate: float = 1.0
    pitch: float = 1.0
    span: float = 1.0  # of F0 around its mean, in the logarithm
    formants: float = 1.0  # under 1: a longer vocal tract
    gain_db: float = 0.0


# A caller asks for these. Happy and sad differ in the range of F0 by a factor of 2.3 and in level by 6.5 dB; more would
# take the tones of Mandarin away.
STYLE_MANNERS: Mapping[Style, Manner] = {
    "": Manner(),
    "slow": Manner(rate=0.74),
    "fast": Manner(rate=1.36),
    "happy": Manner(rate=1.06, pitch=1.1, span=1.4, gain_db=1.5),
    "sad": Manner(rate=0.88, pitch=0.93, span=0.6, gain_db=-5.0),
    "calm": Manner(rate=0.92, pitch=0.97, span=0.8, gain_db=-2.0),
}


def pitch_of(wave: Waveform, sample_rate: int, period_ms: float = _PERIOD_MS) -> npt.NDArray[np.float64]:
    """F0 in hertz every `period_ms`, 0 where unvoiced."""
    samples = np.ascontiguousarray(wave, np.float64)
    rough, times = pyworld.dio(samples, sample_rate, f0_floor=LOWEST_HZ, f0_ceil=HIGHEST_HZ, frame_period=period_ms)
    f0: npt.NDArray[np.float64] = pyworld.stonemask(samples, rough, times, sample_rate)
    return f0


def _moved(f0: npt.NDArray[np.float64], manner: Manner) -> npt.NDArray[np.float64]:
    voiced = f0 > 0
    if not voiced.any():
        return f0
    middle = np.exp(np.log(f0[voiced]).mean())
    moved = f0.copy()
    moved[voiced] = middle * (f0[voiced] / middle) ** manner.span * manner.pitch
    return moved


def _warped(spectra: npt.NDArray[np.float64], formants: float) -> npt.NDArray[np.float64]:
    """(frames, bins): every bin from where it is `formants` times lower, in between linearly."""
    bins = spectra.shape[1]
    at = np.clip(np.arange(bins) / formants, 0, bins - 1)
    low = at.astype(int)
    high = np.minimum(low + 1, bins - 1)
    share = at - low
    return np.ascontiguousarray(spectra[:, low] * (1 - share) + spectra[:, high] * share)


def render(wave: Waveform, sample_rate: int, manner: Manner) -> Waveform:
    """The recording in that manner, float32, no louder than 0.98. `Manner()` gives it back as it is."""
    if manner == Manner():
        return wave
    gain = 10 ** (manner.gain_db / 20)
    if manner == Manner(gain_db=manner.gain_db):
        return _within(wave * gain)
    samples = np.ascontiguousarray(wave, np.float64)
    f0 = pitch_of(wave, sample_rate)
    times = np.arange(len(f0)) * _PERIOD_MS / 1000
    envelope = pyworld.cheaptrick(samples, f0, times, sample_rate)
    aperiodicity = pyworld.d4c(samples, f0, times, sample_rate)
    if manner.formants != 1:
        envelope = np.exp(_warped(np.log(envelope), manner.formants))
        aperiodicity = _warped(aperiodicity, manner.formants)
    made = pyworld.synthesize(_moved(f0, manner), envelope, aperiodicity, sample_rate, _PERIOD_MS / manner.rate)
    wanted = round(len(wave) / manner.rate)
    made = np.pad(made, (0, max(0, wanted - len(made))))[:wanted]
    power, before = float((made**2).mean()), float((samples**2).mean())
    return _within(made * gain * np.sqrt(before / max(power, 1e-12)))


def _within(wave: npt.NDArray[np.floating]) -> Waveform:
    loudest = float(np.abs(wave).max(initial=0.0))
    scaled: Waveform = (wave * min(1.0, _LOUDEST / max(loudest, 1e-9))).astype(np.float32)
    return scaled


def random_voice(rng: Random) -> Manner:
    """Another speaker: pitch and vocal tract move together, as they do in people, and a little apart."""
    size = rng.uniform(-1.0, 0.5)  # -1: a man's
    pitch = 2.0 ** (0.9 * size + rng.uniform(-0.12, 0.12))
    formants = 2.0 ** (0.25 * size + rng.uniform(-0.04, 0.04))
    return Manner(pitch=pitch, formants=formants, span=rng.uniform(0.8, 1.2))
