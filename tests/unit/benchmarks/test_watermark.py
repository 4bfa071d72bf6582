"""The watermark's benchmark: its lines carry what goes over them, and its interval is of the mean difference."""

import numpy as np
import pytest

from benchmarks.watermark import difference, five_seconds
from benchmarks.watermark_lines import LINES
from services.agent.watermark.detect import WINDOW_S

RATE = 22_050


def test_a_difference_that_all_pairs_share_has_no_width() -> None:
    without = np.random.default_rng(1).normal(size=50)
    assert difference(without + 0.25, without, seed=1) == pytest.approx((0.25, 0.25))


def test_chance_differences_have_an_interval_around_none() -> None:
    dice = np.random.default_rng(2)
    without = dice.normal(size=400)
    low, high = difference(without + dice.permutation(np.repeat([-1.0, 1.0], 200)), without, seed=1)
    assert low < 0 < high
    assert high - low == pytest.approx(2 * 1.96 / 20, rel=0.15)


def test_clips_are_five_seconds_from_somewhere() -> None:
    pcm = np.arange(6 * RATE, dtype=np.int32).astype(np.int16)
    cuts = [five_seconds(pcm, np.random.default_rng(seed)) for seed in range(3)]
    assert {len(cut) for cut in cuts} == {round(WINDOW_S * RATE)}
    assert len({float(cut[0]) for cut in cuts}) == 3


@pytest.mark.parametrize("name", LINES)
def test_each_line_carries_a_tone_that_telephones_carry(name: str) -> None:
    wave = (0.3 * np.sin(2 * np.pi * 1000 * np.arange(RATE) / RATE)).astype(np.float32)
    heard, rate = LINES[name](wave, RATE, np.random.default_rng(3))
    assert abs(len(heard) / rate - 1.0) < 0.03
    spectrum = np.abs(np.fft.rfft(heard))
    assert abs(float(spectrum.argmax()) * rate / len(heard) - 1000) < 5
