"""Files that are playable as far as they got, whatever ends the process that writes them."""

import contextlib
import errno
import os
import wave
from enum import Enum
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import soundfile

CHANNELS = 2
MODE = 0o600  # a call is nobody else's business
WAV_BYTES = 0xFFFF_FFFF - 36  # its header counts in 32 bits: 18 hours


class RecordingFormat(Enum):
    """What is written; the values are settings and the files' endings."""

    OPUS = "opus"
    WAV = "wav"


class AudioFile(Protocol):
    """A file being written. All calls may block, and raise OSError when the disk is full or gone."""

    def write(self, block: npt.NDArray[np.int16]) -> None:
        """Adds samples of shape (samples, 2)."""

    def close(self) -> None:
        """Completes the file."""


def create(path: Path, kind: RecordingFormat, rate: int) -> AudioFile:
    """A new stereo file, readable by its owner only.

    Raises:
        OSError: it exists, or cannot be made.
    """
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, MODE))
    return _Opus(path, rate) if kind is RecordingFormat.OPUS else _Wav(path, rate)


class _Wav:
    """16-bit PCM. `wave` brings the header up to date with each block; the file ends at 4 GiB."""

    def __init__(self, path: Path, rate: int) -> None:
        self._file = path.open("r+b")  # until `close`
        self._wave = wave.open(self._file, "wb")  # noqa: SIM115
        self._wave.setnchannels(CHANNELS)
        self._wave.setsampwidth(2)
        self._wave.setframerate(rate)
        try:
            self._wave.writeframes(b"")  # the header
            self._file.flush()
        except OSError:
            with contextlib.suppress(OSError):
                self.close()
            raise

    def write(self, block: npt.NDArray[np.int16]) -> None:
        if self._file.tell() + block.nbytes > WAV_BYTES:
            raise OSError(errno.EFBIG, "no WAV file is longer")
        self._wave.writeframes(block.astype("<i2", copy=False).tobytes())
        self._file.flush()

    def close(self) -> None:
        try:
            self._wave.close()
        finally:
            self._file.close()


class _Opus:
    """Opus in Ogg (RFC 7845), about 4 kB a second: pages of a second each, valid one by one."""

    def __init__(self, path: Path, rate: int) -> None:
        try:
            self._file = soundfile.SoundFile(path, "w", rate, CHANNELS, format="OGG", subtype="OPUS")
        except soundfile.SoundFileError as error:
            raise OSError(str(error)) from error

    def write(self, block: npt.NDArray[np.int16]) -> None:
        try:
            self._file.write(block)
        except (soundfile.SoundFileError, AssertionError) as error:  # it asserts that all was written
            raise OSError(str(error)) from error

    def close(self) -> None:
        try:
            self._file.close()
        except soundfile.SoundFileError as error:
            raise OSError(str(error)) from error
