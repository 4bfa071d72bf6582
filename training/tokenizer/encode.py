"""Shards of speech to speech tokens, with the exported tokenizer: each clip clean, and callers degraded as well."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soxr
import torch
from tqdm import tqdm

from services.tokenizer.weights import Checkpoint
from training import augment, shards
from training.paths import CACHE, REPLY_RATE, SPEECH_RATE
from training.shards import Clip

Waveform = npt.NDArray[np.float32]
Codes = npt.NDArray[np.int16]

TOKENS = CACHE / "tokens"
_BATCH = 24


@dataclass
class Utterance:
    """A clip as the language model sees it: views of the same speech over different lines, the first one clean."""

    clip: Clip
    views: list[Codes] = field(default_factory=list)


def encode_waves(checkpoint: Checkpoint, waves: Sequence[Waveform]) -> list[Codes]:
    """Tokens of whole clips at 16 kHz, batched by length."""
    out: list[Codes] = [np.zeros(0, np.int16)] * len(waves)
    order = sorted(range(len(waves)), key=lambda i: len(waves[i]))
    for start in range(0, len(order), _BATCH):
        chosen = order[start : start + _BATCH]
        clips = [torch.from_numpy(waves[i]) for i in chosen]
        features, frames = checkpoint.log_mel(clips, checkpoint.token_samples)
        with torch.inference_mode():
            codes, lengths = checkpoint.encoder(features, frames)
        for i, row, length in zip(chosen, codes, lengths, strict=True):
            out[i] = row[:length].numpy().astype(np.int16)
    return out


def _views(wave: Waveform, rng: np.random.Generator, degraded: int) -> list[Waveform]:
    """One placement clean, and more placements over bad lines: where speech starts changes its tokens."""
    views = [augment.place(wave, rng)]
    return views + [augment.degrade(augment.place(wave, rng), rng) for _ in range(degraded)]


def token_path(name: str) -> Path:
    return TOKENS / f"{name}.json"


def encode_shard(checkpoint: Checkpoint, path: Path, degraded: int, seed: int) -> None:
    """Writes the tokens of one shard unless they are there. Replies (22.05 kHz) are taken as they are, callers placed."""
    target = TOKENS / f"{path.name}.json"
    if target.exists():
        return
    rng = np.random.default_rng([seed, *path.name.encode()])
    clips: list[Clip] = []
    waves: list[Waveform] = []
    agent = path.name.startswith("replies")
    for clip, wave in shards.read_shard(path):
        clips.append(clip)
        if agent:
            waves.append(soxr.resample(wave, REPLY_RATE, SPEECH_RATE).astype(np.float32))
        else:
            waves += _views(wave, rng, degraded)
    codes = encode_waves(checkpoint, waves)
    views = 1 if agent else 1 + degraded
    rows = [
        {"clip": asdict(clip), "views": [view.tolist() for view in codes[i * views : (i + 1) * views]]}
        for i, clip in enumerate(clips)
    ]
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_suffix(".part")
    temporary.write_text(json.dumps({"revision": checkpoint.revision, "rows": rows}))
    temporary.replace(target)


def encode_all(checkpoint: Checkpoint, paths: Sequence[Path], degraded: int = 1, seed: int = 1) -> None:
    for path in tqdm(paths, desc="tokens", unit="shard"):
        encode_shard(checkpoint, path, degraded, seed)


def read_utterances(path: Path) -> list[Utterance]:
    rows = json.loads(path.read_text())["rows"]
    return [Utterance(Clip(**row["clip"]), [np.array(v, np.int16) for v in row["views"]]) for row in rows]
