import numpy as np
import pytest

from training.judge import contains_in_order, error_rate, normalise, transcribe


@pytest.mark.parametrize(
    ("heard", "meant"),
    [
        ("I have 4719. Is that right?", "i have four seven one nine is that right"),
        ("I have 47 19.", "I have forty seven nineteen"),
        ("at 10:30", "at ten thirty"),
        ("at 1030", "at ten thirty"),
        ("At 10:00 o'clock", "at ten"),
        ("€4", "four euros"),
        ("4-7-1-9", "four seven one nine"),
        ("12 Quay Street", "twelve key street"),
        ("Okay, it's noted.", "ok it is noted"),
    ],
)
def test_normalise_makes_spellings_of_the_same_words_equal(heard: str, meant: str) -> None:
    assert normalise(heard) == normalise(meant)


def test_word_error_rate_counts_edits_per_reference_word() -> None:
    assert error_rate(["one two three four"], ["one two five"]) == 0.5
    assert error_rate(["4719"], ["four seven one nine"]) == 0.0
    with pytest.raises(ValueError, match="1 references but 2"):
        error_rate(["a"], ["a", "b"])


def test_contains_in_order() -> None:
    assert contains_in_order("I have 4719, right?", "four seven one nine")
    assert not contains_in_order("I have 4791", "four seven one nine")


def test_silence_is_no_speech() -> None:
    assert len(normalise(transcribe(np.zeros(16_000, np.float32), 16_000))) <= 1


def test_two_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="one channel"):
        transcribe(np.zeros((100, 2), np.float32), 16_000)
