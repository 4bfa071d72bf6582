"""What `ask` says and hears: WAV files in and out, and where speech is in what a phone receives."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

Pcm = npt.NDArray[np.int16]

RATE = 16_000  # hertz, of everything here
FRAME = RATE // 50  # samples of 20 ms
SPEECH_RMS = 100.0  # -50 dB of full scale; the silence of a digital line is zeros
ONSET_FRAMES = 3  # frames in a row that make speech of a click
LEAD_S, TAIL_S = 0.1, 0.2  # kept around speech that is cut out
WAV_FORMATS = ("WAV", "WAVEX", "RF64")
LONGEST_S = 60.0


class NotAWavError(Exception):
    """A file that cannot be said."""


def read_wav(path: Path) -> Pcm:
    """A WAV file of any rate and number of channels as mono at `RATE`.

    Raises:
        NotAWavError: it is missing, of another format, empty, or longer than `LONGEST_S`.
    """
    try:
        with soundfile.SoundFile(path) as file:
            if file.format not in WAV_FORMATS:
                raise NotAWavError(f"{path} is {file.format}, not a WAV file")
            if file.frames > LONGEST_S * file.samplerate:
                raise NotAWavError(f"{path} is longer than {LONGEST_S:.0f} seconds")
            samples, rate = file.read(dtype="float32", always_2d=True), file.samplerate
    except (soundfile.LibsndfileError, OSError) as error:
        why = "no such file" if not path.exists() else "not a WAV file"
        raise NotAWavError(f"{path}: {why}") from error
    if not len(samples):
        raise NotAWavError(f"{path} has no samples")
    mono = soxr.resample(samples.mean(axis=1), rate, RATE)
    return np.asarray((mono * 32767).clip(-32768, 32767), dtype=np.int16)


def write_wav(path: Path, pcm: Pcm) -> None:
    """16-bit mono at `RATE`."""
    soundfile.write(path, pcm, RATE, subtype="PCM_16", format="WAV")


class Hearing:
    """Finds speech by its energy in audio that comes in pieces. Positions are seconds of audio since its making."""

    def __init__(self) -> None:
        self._pcm = bytearray()
        self._frames = 0  # measured so far
        self._loud = 0  # in a row
        self.speech_start_s: float | None = None
        self.speech_end_s = 0.0

    @property
    def silence_s(self) -> float:
        """Audio since the last speech; 0 before any."""
        return self.heard_s - self.speech_end_s if self.speech_start_s is not None else 0.0

    @property
    def speech_s(self) -> float:
        """From the first speech to the last; 0 before any."""
        return self.speech_end_s - self.speech_start_s if self.speech_start_s is not None else 0.0

    @property
    def heard_s(self) -> float:
        """All audio so far."""
        return len(self._pcm) / 2 / RATE

    def feed(self, pcm: bytes) -> None:
        """Adds 16-bit mono PCM at `RATE`."""
        self._pcm += pcm
        while (self._frames + 1) * FRAME * 2 <= len(self._pcm):
            start = self._frames * FRAME * 2
            frame = np.frombuffer(self._pcm[start : start + FRAME * 2], np.int16).astype(np.float64)
            self._frames += 1
            self._measure(float(np.sqrt(np.mean(frame**2))) >= SPEECH_RMS)

    def speech(self) -> Pcm:
        """From a little before the first speech to a little after the last; empty when there was none."""
        if self.speech_start_s is None:
            return np.zeros(0, np.int16)
        everything = np.frombuffer(bytes(self._pcm), np.int16)
        first = max(0, int((self.speech_start_s - LEAD_S) * RATE))
        return everything[first : int((self.speech_end_s + TAIL_S) * RATE)]

    def _measure(self, loud: bool) -> None:
        self._loud = self._loud + 1 if loud else 0
        if not loud:
            return
        if self.speech_start_s is None and self._loud >= ONSET_FRAMES:
            self.speech_start_s = (self._frames - ONSET_FRAMES) * FRAME / RATE
        if self.speech_start_s is not None:
            self.speech_end_s = self._frames * FRAME / RATE
