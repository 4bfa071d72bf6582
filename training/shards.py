"""Speech on disk: shards of int16 waveforms behind each other, with a JSON index of texts and labels.

A shard is written whole (a temporary name, then a rename), so a data run that was interrupted goes on after the last
complete one.
"""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

Waveform = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Clip:
    """What is known of one recording: the words as said, the intent and slots of a caller's request, who said it."""

    text: str
    voice: str
    intent: str = ""
    slots: dict[str, str] = field(default_factory=dict)


def shard_path(folder: Path, name: str, number: int) -> Path:
    return folder / f"{name}-{number:05d}"


def is_written(folder: Path, name: str, number: int) -> bool:
    return shard_path(folder, name, number).with_suffix(".json").exists()


def write_shard(folder: Path, name: str, number: int, clips: Sequence[tuple[Clip, Waveform]], rate: int) -> None:
    """Writes one shard. The index is renamed last: where it is, the samples are complete."""
    folder.mkdir(parents=True, exist_ok=True)
    path = shard_path(folder, name, number)
    samples = [np.clip(np.round(wave * 32767.0), -32768, 32767).astype(np.int16) for _, wave in clips]
    np.save(path.with_suffix(".npy"), np.concatenate(samples))
    index = {"rate": rate, "lengths": [len(wave) for wave in samples], "clips": [asdict(clip) for clip, _ in clips]}
    temporary = path.with_suffix(".part")
    temporary.write_text(json.dumps(index))
    os.replace(temporary, path.with_suffix(".json"))


def list_shards(folder: Path, name: str) -> list[Path]:
    return sorted(path.with_suffix("") for path in folder.glob(f"{name}-*.json"))


def read_index(path: Path) -> list[Clip]:
    return [Clip(**entry) for entry in json.loads(path.with_suffix(".json").read_text())["clips"]]


def read_lengths(path: Path) -> list[int]:
    lengths: list[int] = json.loads(path.with_suffix(".json").read_text())["lengths"]
    return lengths


def read_shard(path: Path) -> Iterator[tuple[Clip, Waveform]]:
    """Clips and waveforms (float32, -1..1) of a shard, in order."""
    index = json.loads(path.with_suffix(".json").read_text())
    samples = np.load(path.with_suffix(".npy"), mmap_mode="r")
    start = 0
    for entry, length in zip(index["clips"], index["lengths"], strict=True):
        yield Clip(**entry), samples[start : start + length].astype(np.float32) / 32768.0
        start += length
