"""A reference recording of a voice: checked, and brought to the rates that the models take. Pure."""

import io
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from services.common.errors import InvalidInputError

MIN_S, MAX_S = 3.0, 30.0  # as the decoders take them
MAX_BYTES = 8 * 1024 * 1024
RATES = (16_000, 48_000)  # lowest and highest
QUIET = 0.003  # of full scale: a clip whose loudest half second is below that holds no voice
WINDOW_S = 0.5

Waveform = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Clip:
    """One channel of sound, -1 to 1."""

    samples: Waveform
    rate: int

    @classmethod
    def read(cls, wav: bytes) -> "Clip":
        """From a WAV file.

        Raises:
            InvalidInputError: it is something else, or not a usable recording; the message says what is allowed.
        """
        if len(wav) > MAX_BYTES:
            raise InvalidInputError(f"clip: has {len(wav)} bytes; at most {MAX_BYTES} are allowed")
        try:
            with soundfile.SoundFile(io.BytesIO(wav)) as file:
                if file.format not in ("WAV", "WAVEX"):
                    raise InvalidInputError(f"clip: must be a WAV file, not {file.format}")
                rate, channels, seconds = int(file.samplerate), int(file.channels), len(file) / file.samplerate
                if not RATES[0] <= rate <= RATES[1]:
                    raise InvalidInputError(f"clip: has {rate} Hz; {RATES[0]} to {RATES[1]} are allowed")
                if channels > 2:
                    raise InvalidInputError(f"clip: has {channels} channels; one or two are allowed")
                if not MIN_S <= seconds <= MAX_S:
                    raise InvalidInputError(f"clip: lasts {seconds:.2f} s; {MIN_S:g} to {MAX_S:g} s are allowed")
                samples = file.read(dtype="float32", always_2d=True).mean(axis=1)
        except soundfile.LibsndfileError:
            raise InvalidInputError("clip: cannot be read; it must be a WAV file") from None
        if not np.isfinite(samples).all():
            raise InvalidInputError("clip: holds values that are no numbers")
        if _loudest(samples, rate) < QUIET:
            raise InvalidInputError("clip: is silent")
        return cls(np.ascontiguousarray(samples, np.float32), rate)

    def pcm(self, rate: int) -> bytes:
        """16-bit mono PCM at a rate."""
        samples = self.samples if rate == self.rate else soxr.resample(self.samples, self.rate, rate)
        return (np.clip(samples, -1.0, 1.0) * 32767).astype("<i2").tobytes()


def _loudest(samples: Waveform, rate: int) -> float:
    window = int(WINDOW_S * rate)
    powers = [float(np.mean(samples[at : at + window] ** 2)) for at in range(0, len(samples), window)]
    return float(np.sqrt(max(powers, default=0.0)))


def flac(pcm: bytes, rate: int) -> bytes:
    """16-bit mono PCM, smaller and without loss."""
    file = io.BytesIO()
    soundfile.write(file, np.frombuffer(pcm, "<i2"), rate, format="FLAC", subtype="PCM_16")
    return file.getvalue()


def from_flac(content: bytes) -> bytes:
    """The PCM again."""
    samples, _ = soundfile.read(io.BytesIO(content), dtype="int16")
    return bytes(np.asarray(samples, "<i2").tobytes())


def wav(pcm: bytes, rate: int) -> bytes:
    """16-bit mono PCM as a WAV file."""
    file = io.BytesIO()
    soundfile.write(file, np.frombuffer(pcm, "<i2"), rate, format="WAV", subtype="PCM_16")
    return file.getvalue()
