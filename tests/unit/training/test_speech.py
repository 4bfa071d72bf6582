from pathlib import Path
from random import Random

import numpy as np
import pytest

from training import augment
from training.grammar import every, expand
from training.shards import Clip, is_written, list_shards, read_shard, write_shard
from training.splits import split_of
from training.voices import trim

TONE = (0.5 * np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)).astype(np.float32)


@pytest.mark.parametrize("law", ["mu", "a"])
def test_g711_keeps_length_and_most_of_the_signal(law: str) -> None:
    heard = augment.g711(TONE, law)
    assert heard.shape == TONE.shape
    assert heard.dtype == np.float32
    middle = slice(1000, -1000)
    error = np.sqrt(np.mean((heard[middle] - TONE[middle]) ** 2)) / np.sqrt(np.mean(TONE[middle] ** 2))
    assert 1e-4 < error < 0.05


def test_g711_removes_what_is_above_four_kilohertz() -> None:
    high = (0.5 * np.sin(2 * np.pi * 6000 * np.arange(16_000) / 16_000)).astype(np.float32)
    assert np.abs(augment.g711(high)[1000:-1000]).max() < 0.02


def test_noise_has_the_level_asked_for() -> None:
    rng = np.random.default_rng(1)
    added = augment.add_noise(TONE, 10.0, rng) - TONE
    loud = np.sort(TONE**2)[len(TONE) // 2 :].mean()
    assert 10 * np.log10(loud / np.mean(added**2)) == pytest.approx(10.0, abs=0.5)


def test_degrading_keeps_the_timing_and_the_range() -> None:
    rng = np.random.default_rng(2)
    for _ in range(40):
        heard = augment.degrade(TONE, rng)
        assert heard.shape == TONE.shape
        assert heard.dtype == np.float32
        assert np.isfinite(heard).all()
        assert np.abs(heard).max() <= 1.0


def test_placing_puts_silence_around() -> None:
    placed = augment.place(TONE, np.random.default_rng(3))
    start = int(np.flatnonzero(placed)[0])
    assert len(placed) > len(TONE)
    np.testing.assert_array_equal(placed[start - 1 : start - 1 + len(TONE)], TONE)


def test_trim_cuts_silence_at_both_ends() -> None:
    quiet = np.zeros(8000, np.float32)
    cut = trim(np.concatenate([quiet, TONE, quiet]), 16_000, keep=0.05)
    assert len(cut) == pytest.approx(len(TONE) + 1600, abs=20)


def test_shards_come_back_as_they_went(tmp_path: Path) -> None:
    clips = [(Clip("one", "a", "number", {"number": "one"}), TONE), (Clip("two", "b"), TONE[:100])]
    write_shard(tmp_path, "x", 3, clips, 16_000)
    assert is_written(tmp_path, "x", 3)
    assert not is_written(tmp_path, "x", 4)
    back = list(read_shard(list_shards(tmp_path, "x")[0]))
    assert [clip for clip, _ in back] == [clip for clip, _ in clips]
    for (_, wave), (_, original) in zip(back, clips, strict=True):
        np.testing.assert_allclose(wave, original, atol=1e-4)


def test_grammar_makes_every_alternative() -> None:
    assert set(every("[a|b [c|]] d")) == {"a d", "b c d", "b d"}
    assert expand("[a|b] c", Random(1)) in {"a c", "b c"}
    assert list(every("{day} [|please]")) == ["{day}", "{day} please"]


@pytest.mark.parametrize("pattern", ["[a|b", "a]"])
def test_grammar_refuses_unmatched_brackets(pattern: str) -> None:
    with pytest.raises(ValueError, match="unmatched"):
        list(every(pattern))


def test_a_split_is_for_ever() -> None:
    assert [split_of(f"key {i}") for i in range(6)] == [split_of(f"KEY {i}") for i in range(6)]
    shares = [split_of(f"key {i}") for i in range(4000)]
    assert 0.08 < shares.count("test") / 4000 < 0.12
