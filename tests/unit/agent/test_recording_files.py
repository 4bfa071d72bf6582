"""Files of recordings: playable as far as they got."""

import os
import signal
import stat
from pathlib import Path

import numpy as np
import pytest
import soundfile

from services.agent.recording import files
from services.agent.recording.files import RecordingFormat, create

RATE = 16_000
KINDS = pytest.mark.parametrize("kind", list(RecordingFormat))


def second(number: int) -> np.ndarray[tuple[int, ...], np.dtype[np.int16]]:
    """A tone on the left, its octave on the right."""
    phase = 2 * np.pi * 440 * (np.arange(RATE) + number * RATE) / RATE
    return (np.stack([np.sin(phase), np.sin(2 * phase)], axis=1) * 8000).astype(np.int16)


def loudest_hz(channel: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> float:
    spectrum = np.abs(np.fft.rfft(channel))
    return float(np.argmax(spectrum)) * RATE / len(channel)


@KINDS
def test_a_complete_file_holds_both_channels_to_the_last_sample(tmp_path: Path, kind: RecordingFormat) -> None:
    path = tmp_path / f"call.{kind.value}"
    file = create(path, kind, RATE)
    for number in range(3):
        file.write(second(number))
    file.write(second(3)[:777])
    file.close()
    heard, rate = soundfile.read(path)
    assert rate == RATE
    assert heard.shape == (3 * RATE + 777, 2)
    assert loudest_hz(heard[:RATE, 0]) == pytest.approx(440, abs=2)
    assert loudest_hz(heard[:RATE, 1]) == pytest.approx(880, abs=2)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@KINDS
def test_after_a_kill_all_but_the_last_moments_is_playable(tmp_path: Path, kind: RecordingFormat) -> None:
    path = tmp_path / f"call.{kind.value}"
    child = os.fork()
    if not child:
        file = create(path, kind, RATE)
        for number in range(10):
            file.write(second(number))
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    heard, _ = soundfile.read(path)
    assert len(heard) >= (10 if kind is RecordingFormat.WAV else 8.5) * RATE
    assert loudest_hz(heard[:RATE, 1]) == pytest.approx(880, abs=2)


@KINDS
def test_a_full_disk_is_an_os_error(kind: RecordingFormat) -> None:
    make = files._Opus if kind is RecordingFormat.OPUS else files._Wav
    with pytest.raises(OSError, match=r"System error|No space"):  # libsndfile does not say more
        make(Path("/dev/full"), RATE).write(second(0))


@KINDS
def test_no_file_is_written_over(tmp_path: Path, kind: RecordingFormat) -> None:
    (tmp_path / "call").write_text("mine")
    with pytest.raises(FileExistsError):
        create(tmp_path / "call", kind, RATE)
    assert (tmp_path / "call").read_text() == "mine"


def test_a_wav_file_ends_before_its_header_can_no_longer_say_how_long_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "WAV_BYTES", 44 + 2 * 4 * RATE)
    file = create(tmp_path / "call.wav", RecordingFormat.WAV, RATE)
    file.write(second(0))
    file.write(second(1))
    with pytest.raises(OSError, match="no WAV file is longer"):
        file.write(second(2)[:1])
    file.close()
    assert soundfile.info(tmp_path / "call.wav").frames == 2 * RATE
