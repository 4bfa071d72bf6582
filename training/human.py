"""Recordings of a person, for tests alone: Debian's telephone prompts (asterisk-core-sounds-en), fetched with apt."""

import gzip
import subprocess
from pathlib import Path
from random import Random

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from training.corpus import DIGITS
from training.domain.numbers import random_number
from training.paths import CACHE, SPEECH_RATE

Waveform = npt.NDArray[np.float32]
Said = tuple[str, Waveform]

FOLDER = CACHE / "human"
_PACKAGES = ("asterisk-core-sounds-en", "asterisk-core-sounds-en-wav")
_SHORTEST, _LONGEST = 1.0, 9.0  # seconds


def fetch() -> Path:
    """The folder of what the packages hold; nothing is installed.

    Raises:
        RuntimeError: apt cannot fetch them.
    """
    if not (FOLDER / "usr").is_dir():
        FOLDER.mkdir(parents=True, exist_ok=True)
        try:
            subprocess.run(["apt-get", "download", "-q", *_PACKAGES], cwd=FOLDER, check=True, capture_output=True)
            for archive in sorted(FOLDER.glob("*.deb")):
                subprocess.run(["dpkg", "-x", archive.name, "."], cwd=FOLDER, check=True, capture_output=True)
                archive.unlink()
        except (OSError, subprocess.CalledProcessError) as error:
            raise RuntimeError(f"recorded prompts need apt-get and dpkg ({', '.join(_PACKAGES)}): {error}") from error
    return FOLDER / "usr" / "share"


def _wave(name: str) -> Waveform | None:
    found = sorted((fetch() / "asterisk" / "sounds").glob(f"*/{name}.wav"))
    if not found:
        return None
    wave, rate = soundfile.read(found[0], dtype="float32")
    return np.asarray(soxr.resample(wave, rate, SPEECH_RATE), np.float32)


def prompts() -> list[Said]:
    """Whole prompts of one to nine seconds with their words; those of tones and single letters are left out."""
    listed = gzip.decompress(next((fetch() / "doc").glob("*/core-sounds-en.txt.gz")).read_bytes()).decode()
    said: list[Said] = []
    for line in listed.splitlines():
        name, _, text = line.partition(": ")
        if not text or "[" in text or "/" in name or name.startswith(";"):
            continue
        wave = _wave(name)
        if wave is not None and _SHORTEST < len(wave) / SPEECH_RATE < _LONGEST:
            said.append((text, wave))
    return said


def digit_strings(count: int, seed: int = 1) -> list[Said]:
    """Numbers of the test split, of three to six digits, from single digits as that person says them."""
    rng = Random(seed)
    digits: dict[str, Waveform] = {}
    for value, word in enumerate(DIGITS):
        wave = _wave(f"digits/{value}")
        assert wave is not None, f"no recording of {word}"
        digits[word] = wave
    said: list[Said] = []
    for _ in range(count):
        number = random_number(rng, "test")
        pause = np.zeros(int(rng.uniform(0.0, 0.25) * SPEECH_RATE), np.float32)
        said.append((number, np.concatenate([part for word in number.split() for part in (digits[word], pause)])))
    return said
