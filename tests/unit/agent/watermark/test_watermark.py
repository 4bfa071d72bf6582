import math

import numpy as np
import numpy.typing as npt
import pytest
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from services.agent.watermark.code import CELLS, HIGH_HZ, LOW_HZ, PAIRS, PUBLIC_KEY, Code, band_of
from services.agent.watermark.detect import ALPHA, SHIFTS, detect, differences, p_value, scores
from services.agent.watermark.embed import STRENGTH_DB, Marker, Pcm, hop_samples
from training.augment import a_law, mu_law

RATE = 22_050
CODE = Code.of()


def syllables(seconds: float, rate: int = RATE, seed: int = 1) -> Pcm:
    """Noise in syllables of 150 ms with gaps and changing colour: what matters of speech here."""
    dice = np.random.default_rng(seed)
    parts = []
    for _ in range(math.ceil(seconds / 0.2)):
        length = round(0.2 * rate)
        spectrum = np.fft.rfft(dice.standard_normal(length))
        hertz = np.arange(len(spectrum)) / 0.2
        spectrum *= sum(np.exp(-(((hertz - dice.uniform(300, 3000)) / 300) ** 2)) for _ in range(3))
        wave = np.fft.irfft(spectrum, length) * np.hanning(length) ** 0.3
        parts.append(wave / np.abs(wave).max() * dice.uniform(2000, 12_000))
    return np.concatenate(parts)[: round(seconds * rate)].astype(np.int16)


def marked(pcm: Pcm, rate: int = RATE, code: Code = CODE) -> Pcm:
    return Marker(code, rate).mark(pcm, last=True)


def as_floats(pcm: Pcm) -> npt.NDArray[np.float64]:
    return pcm / 32768.0


def test_pattern_is_balanced_over_frequency_and_time_and_is_the_keys_own() -> None:
    assert CODE.signs.shape == (CELLS, PAIRS)
    assert set(np.unique(CODE.signs)) == {-1.0, 1.0}
    halves = CODE.halves
    assert not (halves[:, 0::2] + halves[:, 1::2]).any()
    assert not (halves[0::2] + halves[1::2]).any()
    assert np.array_equal(Code.of(PUBLIC_KEY).signs, CODE.signs)
    assert abs(float((Code.of(b"another").signs * CODE.signs).mean())) < 0.2
    with pytest.raises(ValueError, match="empty"):
        Code.of(b"")


def test_bands_fill_the_telephone_band() -> None:
    assert band_of(np.array([LOW_HZ - 1, LOW_HZ, HIGH_HZ - 1, HIGH_HZ])).tolist() == [-1, 0, 2 * PAIRS - 1, -1]


@given(st.lists(st.integers(0, 900), max_size=20), st.sampled_from([8000, 22_050, 24_000]))
@settings(max_examples=40, deadline=None)
def test_streaming_gives_the_same_samples_as_one_piece(pieces: list[int], rate: int) -> None:
    pcm = syllables(0.4, rate)
    whole = marked(pcm, rate)
    assert len(whole) == len(pcm)
    marker, got, at = Marker(CODE, rate), [], 0
    for size in pieces:
        got.append(marker.mark(pcm[at : at + size]))
        at += len(pcm[at : at + size])
        assert at - sum(map(len, got)) <= 2 * hop_samples(rate)
    got += [marker.mark(pcm[at:]), marker.mark(pcm[:0], last=True)]
    assert np.array_equal(np.concatenate(got), whole)


def test_at_most_12_ms_are_held_back() -> None:
    assert max(2 * hop_samples(rate) / rate for rate in (8000, 16_000, 22_050, 24_000, 44_100, 48_000)) <= 0.0121


def test_silence_stays_silent_and_nothing_rings_before_or_after_speech() -> None:
    assert not marked(np.zeros(RATE, np.int16)).any()
    pcm = np.concatenate([np.zeros(4000, np.int16), syllables(0.5), np.zeros(4000, np.int16)])
    changed = np.flatnonzero(marked(pcm) != pcm)
    assert changed.size
    assert changed.min() >= 4000 - 2 * hop_samples(RATE)
    assert changed.max() < len(pcm) - 4000 + 2 * hop_samples(RATE)


def test_what_is_added_stays_well_below_the_speech_and_within_the_band() -> None:
    pcm = syllables(3.0)
    added = marked(pcm).astype(float) - pcm
    below_db = 10 * np.log10((pcm.astype(float) ** 2).mean() / (added**2).mean())
    assert below_db > -20 * np.log10(10 ** (STRENGTH_DB / 20) - 1)
    spectrum = np.abs(np.fft.rfft(added)) ** 2
    hertz = np.arange(len(spectrum)) / 3.0
    outside = spectrum[(hertz < LOW_HZ - 250) | (hertz > HIGH_HZ + 250)].sum()
    assert outside < spectrum.sum() / 100


def test_loudest_speech_is_limited_and_does_not_wrap() -> None:
    pcm = np.where(np.arange(RATE) // 20 % 2, 32_767, -32_768).astype(np.int16)
    assert np.abs(marked(pcm).astype(int) - pcm).max() < 20_000


def test_found_in_five_seconds_after_both_laws_resampling_gain_and_a_shift() -> None:
    wave = as_floats(marked(syllables(5.6)))[3001:]
    narrow = np.asarray(soxr.resample(wave, RATE, 8000)[:40_000], np.float32)
    lines = {
        "mu": (mu_law(narrow), 8000),
        "A, quiet": (a_law(narrow * np.float32(0.1)), 8000),
        "48 kHz": (soxr.resample(wave, RATE, 48_000), 48_000),
        "clock 0.1 % fast": (soxr.resample(narrow, 8000, 8008), 8000),
    }
    for line, (heard, rate) in lines.items():
        finding = detect(heard, rate, CODE)
        assert finding.found, line
        assert finding.p_value < ALPHA / 100, line


def test_neither_unmarked_audio_nor_another_keys_mark_is_found() -> None:
    pcm = syllables(5.0)
    for wave in (pcm, marked(pcm, code=Code.of(b"another"))):
        finding = detect(as_floats(wave), RATE, CODE)
        assert not finding.found
        assert finding.spans == ()
        assert finding.p_value > 1e-3


def test_tells_where_and_in_which_channel() -> None:
    speech = syllables(20.0)
    bot = np.concatenate([speech[: 8 * RATE], marked(speech[8 * RATE : 14 * RATE]), speech[14 * RATE :]])
    finding = detect(as_floats(np.stack([speech, bot], axis=1)), RATE, CODE)
    (span,) = finding.spans
    assert span.channel == 1
    assert 5.0 <= span.start_s <= 9.0
    assert 13.0 <= span.end_s <= 17.0


def test_p_values_of_unmarked_audio_are_never_too_small() -> None:
    """At any level q, no more than a share q of keys may score below it; binomial deviations are allowed for."""
    compared = differences(soxr.resample(as_floats(syllables(4.0, seed=3)), RATE, 8000))
    keys = 400
    found = np.array([p_value(float(scores(compared, Code.of(b"%d" % key)).max()), SHIFTS) for key in range(keys)])
    for level in (0.01, 0.1, 0.3):
        assert (found <= level).sum() <= keys * level + 4 * math.sqrt(keys * level)


def test_scores_have_the_deviation_that_the_bound_supposes() -> None:
    """Over keys the score at one shift has mean 0 and deviation 1, whatever the audio: here a steady chord."""
    t = np.arange(4 * 8000) / 8000
    chord = np.sum([np.sin(2 * np.pi * hertz * t * (1 + 0.01 * np.sin(9 * t))) for hertz in (440, 660, 1100)], axis=0)
    compared = differences(0.1 * chord)
    keys = 600
    at_one_shift = np.array([scores(compared, Code.of(b"%d" % key))[17] for key in range(keys)])
    assert abs(float(at_one_shift.mean())) < 4 / math.sqrt(keys)
    assert abs(float((at_one_shift**2).mean()) - 1) < 4 * math.sqrt(2 / keys)


def test_p_value_is_a_bound_of_the_normal_tail_for_all_that_was_tried() -> None:
    assert p_value(0.0, 1) == 1.0
    assert p_value(6.0, 1) == pytest.approx(3.18 * 9.866e-10, rel=1e-3)
    assert p_value(6.0, 1000) == pytest.approx(1000 * p_value(6.0, 1))


def test_silence_and_constants_are_no_find() -> None:
    for wave in (np.zeros(16_000), np.full(16_000, 0.5)):
        assert not detect(wave, 8000, CODE).found


@pytest.mark.parametrize(
    ("wave", "rate", "message"),
    [(np.zeros(4000), 8000, "0.50 s long: at least 1 s"), (np.zeros(60_000), 6000, "6000 Hz: at least 8000")],
)
def test_what_cannot_be_looked_at_is_said(wave: npt.NDArray[np.float64], rate: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        detect(wave, rate, CODE)


def test_a_rate_that_cannot_carry_the_mark_is_refused() -> None:
    with pytest.raises(ValueError, match="6000 Hz do not carry"):
        Marker(CODE, 6000)
