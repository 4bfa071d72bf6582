"""What callers say in a benchmark: a recorded question, then listening, over a quiet room's noise, by the clock."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

Pcm = npt.NDArray[np.int16]

QUESTION = Path(__file__).resolve().parents[2] / "samples" / "opening-hours.wav"
PERIOD_S = 10.0  # from one question to the next: speech, the answer's silence, its echo, a pause
NOISE = 20.0  # of 32768, -64 dB: no line is silent to the last bit
PACKET_S = 0.02


def script(rate: int) -> Pcm:
    """One period at a rate, 16-bit mono."""
    wave, recorded = soundfile.read(QUESTION, dtype="float32", always_2d=True)
    said = soxr.resample(wave.mean(axis=1), recorded, rate) * 32767
    pcm = np.random.default_rng(1).normal(0.0, NOISE, round(rate * PERIOD_S))
    pcm[: len(said)] += said[: len(pcm)]
    return np.rint(pcm).clip(-32768, 32767).astype(np.int16)
