"""Recordings by whose voice it is."""

import math
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from random import Random

import numpy as np
import numpy.typing as npt
import soxr
import torch
from torch import Tensor

from services.decoder.speaker import SAMPLE_RATE, filter_bank
from training.shards import read_index, read_lengths
from training.synthesis import SPEECH

Waveform = npt.NDArray[np.float32]

NAMES = ("callers-train", "callers-zh-train", "voices-replies-train", "voices-replies-zh-train", "replies-zh-train")
HELD_OUT = ("callers-test", "callers-zh-test", "strangers-test")
_SPOKEN = re.compile(r"^(hibari|joe|kokoro\w*)@([\d.]+)x[\d.]+$")
_CONVERTED = re.compile(r"^p([\d.]+)f([\d.]+)$")
_BIN = math.log(1.05)
_STRETCHES = (1.0, 1.0, 0.84, 0.92, 1.09, 1.19)


def identity(voice: str, stretch: float = 1.0) -> str | None:
    """Who it is that a clip's voice names, pitch and vocal tract in steps of 5 %; none where the name does not tell:
    espeak-ng's pitch and mixed voices' shares are not in it."""
    if spoken := _SPOKEN.match(voice):
        return f"{spoken[1]}/{round(math.log(float(spoken[2]) * stretch) / _BIN)}"
    if converted := _CONVERTED.match(voice):
        pitch, formants = (round(math.log(float(part) * stretch) / _BIN) for part in converted.groups())
        return f"converted/{round(pitch / 3)}/{formants}"
    return f"{voice}/{round(math.log(stretch) / _BIN)}" if voice == "second" else None


class Voices:
    """Crops of recordings, batch by batch, with the number of their speaker."""

    def __init__(self, paths: Sequence[Path], seed: int, fewest: int = 6) -> None:
        """Speakers of fewer recordings than `fewest` are left out."""
        self._rng = Random(seed)
        found: dict[str, list[tuple[Path, int, int, int, float]]] = defaultdict(list)
        for path in paths:
            start, rate = 0, _rate_of(path)
            for clip, length in zip(read_index(path), read_lengths(path), strict=True):
                for stretch in set(_STRETCHES):
                    if length > rate and (who := identity(clip.voice, stretch)):
                        found[who].append((path, start, length, rate, stretch))
                start += length
        self._clips = {who: clips for who, clips in sorted(found.items()) if len(clips) >= fewest}
        self.speakers = list(self._clips)
        self._samples: dict[Path, npt.NDArray[np.int16]] = {}

    def batch(self, size: int, frames: int) -> tuple[Tensor, Tensor]:
        """Filter banks (size, frames, 80) and speakers (size), two recordings of each speaker."""
        drawn = (self._rng.randrange(len(self.speakers)) for _ in range(size // 2))
        numbers = [number for number in drawn for _ in range(2)]
        features = []
        for number in numbers:
            bank = filter_bank(self._wave(self._rng.choice(self._clips[self.speakers[number]])))
            if len(bank) < frames:
                bank = np.tile(bank, (math.ceil(frames / len(bank)), 1))
            start = self._rng.randrange(len(bank) - frames + 1)
            features.append(torch.from_numpy(bank[start : start + frames]))
        return torch.stack(features), torch.tensor(numbers)

    def _wave(self, clip: tuple[Path, int, int, int, float]) -> Waveform:
        path, start, length, rate, stretch = clip
        if path not in self._samples:
            self._samples[path] = np.load(path.with_suffix(".npy"), mmap_mode="r")
        wave = self._samples[path][start : start + length].astype(np.float32) / 32768.0
        return np.asarray(soxr.resample(wave, rate * stretch, SAMPLE_RATE, quality="MQ"), np.float32)


def _rate_of(path: Path) -> int:
    with path.with_suffix(".json").open() as file:
        match = re.search(r'"rate": (\d+)', file.read(40))
    assert match is not None, f"{path} names no sample rate"
    return int(match[1])


def shards(names: Sequence[str]) -> list[Path]:
    return [path.with_suffix("") for name in names for path in sorted(SPEECH.glob(f"{name}-[0-9]*.json"))]
