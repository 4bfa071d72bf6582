import numpy as np
import pytest
import soundfile

from services.agent.outbound.tone import ToneDetector
from services.agent.voice_activity import WINDOW_SAMPLES
from tests.integration.stack import ROOT

RATE = 16_000


def heard(pcm: "np.typing.NDArray[np.float64]") -> list[bool]:
    detector = ToneDetector()
    samples = np.clip(pcm, -32768, 32767).astype(np.int16)
    starts = range(0, len(samples) - WINDOW_SAMPLES + 1, WINDOW_SAMPLES)
    return [detector.is_tone(samples[start : start + WINDOW_SAMPLES].tobytes()) for start in starts]


def sine(hertz: float, seconds: float = 0.5, level: float = 6000) -> "np.typing.NDArray[np.float64]":
    return level * np.sin(2 * np.pi * hertz * np.arange(int(seconds * RATE)) / RATE)


@pytest.mark.parametrize("hertz", [440, 620, 1000, 1010, 1400, 2000])
def test_a_beep_is_a_tone_from_its_second_window_on(hertz: float) -> None:
    windows = heard(sine(hertz))
    assert not windows[0]
    assert all(windows[1:])


@pytest.mark.parametrize(
    "pcm",
    [
        sine(1000, level=200),  # too quiet
        sine(300),
        sine(3000),
        sine(697) + sine(1209),  # a key
        sine(350) + sine(440),  # a dial tone of two
        np.random.default_rng(1).normal(0, 3000, RATE),
        np.zeros(RATE),
        6000 * np.sin(2 * np.pi * np.cumsum(np.linspace(500, 2000, RATE // 2)) / RATE),  # a siren: 96 Hz a window
    ],
)
def test_other_sounds_are_none(pcm: "np.typing.NDArray[np.float64]") -> None:
    assert not any(heard(pcm))


def test_a_beep_in_noise_is_heard() -> None:
    noisy = sine(1000) + np.random.default_rng(2).normal(0, 600, RATE // 2)
    assert sum(heard(noisy)) >= 14  # of 15 windows


@pytest.mark.parametrize("name", ["opening-hours", "address"])
def test_speech_makes_no_beep(name: str) -> None:
    pcm, rate = soundfile.read(ROOT / "samples" / f"{name}.wav")
    assert rate == RATE
    longest = run = 0
    for tone in heard(pcm * 32767):
        run = run + 1 if tone else 0
        longest = max(longest, run)
    assert longest * WINDOW_SAMPLES / RATE < 0.2
