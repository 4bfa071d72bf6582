import numpy as np
import numpy.typing as npt
import pytest

from services.agent.legs.catch_up import CatchUp

RATE = 16_000
FRAME = 320


def voice(seconds: float, pitch: float = 140.0) -> npt.NDArray[np.int16]:
    """Ten harmonics, as a vowel has them."""
    time = np.arange(int(seconds * RATE)) / RATE
    wave = sum(np.sin(2 * np.pi * pitch * number * time) / number for number in range(1, 11))
    return np.asarray(wave * 4000, np.int16)


def shortened(pcm: npt.NDArray[np.int16], owed: int) -> tuple[npt.NDArray[np.int16], int]:
    catch_up, pieces = CatchUp(RATE), []
    for start in range(0, len(pcm), FRAME):
        piece = pcm[start : start + FRAME]
        shorter = catch_up.shorten(piece, owed)
        owed -= len(piece) - len(shorter)
        pieces.append(shorter)
    return np.concatenate(pieces), owed


def test_nothing_is_taken_when_nothing_is_owed() -> None:
    pcm = voice(0.5)
    assert np.array_equal(shortened(pcm, 0)[0], pcm)


def test_silence_is_left_out_whole() -> None:
    pcm, owed = shortened(np.zeros(RATE, np.int16), RATE // 4)
    assert (len(pcm), owed) == (RATE * 3 // 4, 0)


def test_never_more_than_is_owed_is_taken() -> None:
    for owed in (1, 100, 319, 321):
        assert len(shortened(np.zeros(RATE, np.int16), owed)[0]) == RATE - owed


@pytest.mark.parametrize("pitch", [110.0, 140.0, 220.0])
def test_running_speech_is_back_within_a_second_and_a_half_and_keeps_its_pitch(pitch: float) -> None:
    pcm, owed = shortened(voice(1.5, pitch), RATE * 3 // 10)  # 300 ms
    assert owed < RATE // 100, "less than a pitch period is left"
    spectrum = np.abs(np.fft.rfft(pcm * np.hanning(len(pcm))))
    around = spectrum[int((pitch - 40) * len(pcm) / RATE) : int((pitch + 40) * len(pcm) / RATE)]
    assert (int(around.argmax()) * RATE / len(pcm)) + pitch - 40 == pytest.approx(pitch, abs=3)


def test_speech_is_joined_without_clicks() -> None:
    before = voice(1.0)
    after, _ = shortened(before, RATE // 10)
    assert np.abs(np.diff(after.astype(int))).max() <= np.abs(np.diff(before.astype(int))).max() * 1.3


def test_a_short_last_piece_is_no_trouble() -> None:
    assert len(CatchUp(RATE).shorten(voice(0.001), 100)) == 16
    assert len(CatchUp(RATE).shorten(np.zeros(0, np.int16), 100)) == 0
