import numpy as np
import pytest

from tests.acceptance.seams import PIECE_S, Wave, compare

RATE = 8000


def speech(seconds: float, seed: int = 0) -> Wave:
    """Noise with a changing colour: no piece is like another."""
    rng = np.random.default_rng(seed)
    wave = rng.normal(0, 0.1, round(seconds * RATE))
    return np.convolve(wave, np.ones(4) / 4, "same").astype(np.float32)


def silence(seconds: float) -> Wave:
    return np.zeros(round(seconds * RATE), np.float32)


def test_the_same_behind_some_silence_and_through_a_noisy_line_is_the_same() -> None:
    rendered = speech(4)
    noise = np.random.default_rng(9).normal(0, 0.002, round(5.5 * RATE)).astype(np.float32)
    heard = np.concatenate([silence(0.7), 0.8 * rendered, silence(0.8)]) + noise
    seam = compare(rendered, heard, RATE)
    assert (seam.pieces, seam.missing) == (10, 0)
    assert seam.pause_s == pytest.approx(0.0, abs=0.01)
    assert seam.surplus_s == pytest.approx(0.0, abs=0.05)


def test_a_pause_is_measured() -> None:
    rendered = speech(4)
    cut = round(1.6 * RATE)
    seam = compare(rendered, np.concatenate([rendered[:cut], silence(1.25), rendered[cut:]]), RATE)
    assert seam.missing == 0
    assert seam.pause_s == pytest.approx(1.25, abs=0.01)
    assert seam.surplus_s == pytest.approx(0.0, abs=0.05)


def test_a_pause_within_a_piece_costs_that_piece_at_most() -> None:
    rendered = speech(4)
    cut = round(1.8 * RATE)
    seam = compare(rendered, np.concatenate([rendered[:cut], silence(0.5), rendered[cut:]]), RATE)
    assert seam.missing <= 1
    assert seam.pause_s == pytest.approx(0.5, abs=0.01)


def test_missing_words_are_found() -> None:
    rendered = speech(4)
    gap = round(PIECE_S * RATE)
    seam = compare(rendered, np.concatenate([rendered[: 4 * gap], rendered[7 * gap :], silence(2)]), RATE)
    assert seam.missing == 3


def test_repeated_words_are_a_surplus() -> None:
    rendered = speech(4)
    cut, back = round(2.4 * RATE), round(1.6 * RATE)
    seam = compare(rendered, np.concatenate([rendered[:cut], rendered[back:]]), RATE)
    assert seam.missing == 0
    assert seam.surplus_s == pytest.approx(0.8, abs=0.05)


def test_other_speech_is_not_taken_for_it() -> None:
    seam = compare(speech(4), speech(6, seed=5), RATE)
    assert seam.missing == seam.pieces
