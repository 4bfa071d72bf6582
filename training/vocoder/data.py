"""Segments of the agent's voice with their F0."""

from random import Random

import numpy as np
import numpy.typing as npt
import pyworld
import torch
from torch import Tensor

from services.decoder.mel import HOP, SAMPLE_RATE
from training.decoder import agent_voice
from training.shards import list_shards, read_shard

Waveform = npt.NDArray[np.float32]

_LOWEST_HZ, _HIGHEST_HZ = 70.0, 450.0


def f0_of(wave: Waveform) -> Waveform:
    """F0 in hertz at the centres of the mel frames (sample 256 i + 128), 0 where unvoiced: one value a frame."""
    frames = len(wave) // HOP
    centred = np.ascontiguousarray(wave[HOP // 2 :], dtype=np.float64)
    period_ms = 1000.0 * HOP / SAMPLE_RATE
    rough, times = pyworld.dio(centred, SAMPLE_RATE, f0_floor=_LOWEST_HZ, f0_ceil=_HIGHEST_HZ, frame_period=period_ms)
    f0 = pyworld.stonemask(centred, rough, times, SAMPLE_RATE)[:frames].astype(np.float32)
    return np.pad(f0, (0, frames - len(f0)))


class Segments:
    """Random segments of clips; F0 is found when a clip is first used."""

    def __init__(self, shards: int, seed: int) -> None:
        paths = list_shards(agent_voice.FOLDER, "agent-train")[:shards]
        self._waves = [wave for path in paths for _, wave in read_shard(path) if len(wave) > SAMPLE_RATE]
        self._f0: dict[int, Waveform] = {}
        self._rng = Random(seed)

    def batch(self, size: int, frames: int) -> tuple[Tensor, Tensor]:
        """Waveforms (size, frames * 256) and F0 (size, frames)."""
        waves, f0 = [], []
        for _ in range(size):
            number = self._rng.randrange(len(self._waves))
            wave = self._waves[number]
            if number not in self._f0:
                self._f0[number] = f0_of(wave)
            start = self._rng.randrange(max(1, len(wave) // HOP - frames))
            piece = wave[start * HOP : (start + frames) * HOP]
            waves.append(np.pad(piece, (0, frames * HOP - len(piece))))
            pitch = self._f0[number][start : start + frames]
            f0.append(np.pad(pitch, (0, frames - len(pitch))))
        return torch.from_numpy(np.stack(waves)), torch.from_numpy(np.stack(f0))


def held_out(count: int) -> list[tuple[str, Waveform]]:
    """Texts and recordings of the test split."""
    path = list_shards(agent_voice.FOLDER, "agent-test")[0]
    return [(clip.text, wave) for clip, wave in read_shard(path)][:count]
