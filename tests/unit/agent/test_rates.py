from typing import Any

import numpy as np
import pytest

from services.agent.legs.rates import converter

RATIOS = [(8000, 16_000), (16_000, 8000), (48_000, 16_000), (16_000, 48_000), (16_000, 16_000)]


def sine(hertz: float, rate: int, seconds: float) -> "np.ndarray[Any, np.dtype[np.int16]]":
    wave = 8000 * np.sin(2 * np.pi * hertz * np.arange(int(rate * seconds)) / rate)
    return np.asarray(np.rint(wave), dtype=np.int16)


def level(pcm: "np.ndarray[Any, np.dtype[np.int16]]", hertz: float, rate: int) -> float:
    """Of a tone, in decibels of the sine above."""
    turn = np.exp(-2j * np.pi * hertz * np.arange(len(pcm)) / rate) * np.hanning(len(pcm))
    return float(20 * np.log10(abs(np.sum(pcm * turn)) * 4 / len(pcm) / 8000 + 1e-12))


@pytest.mark.parametrize(("before", "after"), [*RATIOS, (22_050, 8000), (44_100, 16_000)])
@pytest.mark.parametrize("hertz", [200, 1000, 3000])
def test_a_tone_stays_what_it_is(before: int, after: int, hertz: float) -> None:
    pcm = converter(before, after).convert(sine(hertz, before, 1.0))
    assert 0.9 * after < len(pcm) <= after
    middle = pcm[after // 4 : after * 3 // 4]
    assert level(middle, hertz, after) == pytest.approx(0, abs=0.1)
    rest = np.sqrt(np.mean((middle.astype(float)) ** 2)) - 8000 / np.sqrt(2)
    assert abs(rest) < 80


@pytest.mark.parametrize(("before", "after"), RATIOS)
def test_pieces_of_any_size_give_the_same_stream(before: int, after: int) -> None:
    pcm = np.random.default_rng(1).integers(-20_000, 20_000, 4801).astype(np.int16)
    whole = converter(before, after).convert(pcm)
    for size in (1, 7, 160, 4801):
        stream = converter(before, after)
        pieces = [stream.convert(pcm[start : start + size]) for start in range(0, len(pcm), size)]
        assert not len(stream.convert(pcm[:0]))
        np.testing.assert_array_equal(np.concatenate(pieces), whole)


@pytest.mark.parametrize(("before", "after"), RATIOS)
def test_nothing_is_held_back_for_long(before: int, after: int) -> None:
    pulse = np.zeros(before // 10, np.int16)
    pulse[before // 50] = 20_000
    out = converter(before, after).convert(pulse)
    assert len(out) == after // 10
    delay_s = int(np.abs(out).argmax()) / after - 0.02
    assert 0 <= delay_s <= 0.0021


def test_what_the_lower_rate_cannot_carry_does_not_fold_back() -> None:
    folded = converter(16_000, 8000).convert(sine(5000, 16_000, 1.0))
    assert level(folded[2000:6000], 3000, 8000) < -60
    image = converter(8000, 16_000).convert(sine(3000, 8000, 1.0))
    assert level(image[4000:12_000], 5000, 16_000) < -60


def test_loud_samples_are_clipped_and_do_not_wrap() -> None:
    square = np.where(np.arange(800) // 20 % 2, 32_767, -32_768).astype(np.int16)
    out = converter(8000, 16_000).convert(square)
    rising = np.diff(out.astype(int))
    assert np.abs(rising).max() < 50_000
