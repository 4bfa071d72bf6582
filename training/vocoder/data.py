"""Segments of the agent's voice with their F0."""

from collections.abc import Sequence
from pathlib import Path
from random import Random

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from services.decoder.mel import HOP, SAMPLE_RATE
from training.decoder import agent_voice
from training.prosody import pitch_of
from training.shards import list_shards, read_shard
from training.synthesis import SPEECH

Waveform = npt.NDArray[np.float32]


def f0_of(wave: Waveform) -> Waveform:
    """F0 in hertz at the centres of the mel frames (sample 256 i + 128), 0 where unvoiced: one value a frame."""
    frames = len(wave) // HOP
    f0 = pitch_of(wave[HOP // 2 :], SAMPLE_RATE, 1000.0 * HOP / SAMPLE_RATE)[:frames].astype(np.float32)
    return np.pad(f0, (0, frames - len(f0)))


def vocoder_shards(plain: int) -> list[Path]:
    """So many of the agent's English ones, and what there is of other voices, styles and Mandarin, evenly taken."""
    others = [
        path for name in ("voices-replies", "styled-replies", "replies-zh-train") for path in list_shards(SPEECH, name)
    ]
    step = max(1, len(others) // (2 * plain))
    return [*list_shards(agent_voice.FOLDER, "agent-train")[:plain], *others[::step]]


class Segments:
    """Random segments of clips; F0 is found when a clip is first used."""

    def __init__(self, paths: Sequence[Path], seed: int) -> None:
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
