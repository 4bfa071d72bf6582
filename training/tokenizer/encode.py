"""Shards of speech to speech tokens, with the exported tokenizer."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soxr
import torch
from tqdm import tqdm

from services.tokenizer.weights import Checkpoint
from training import augment, shards
from training.languages import Language
from training.paths import CACHE, REPLY_RATE, SPEECH_RATE
from training.shards import Clip
from training.synthesis import SPEECH

Waveform = npt.NDArray[np.float32]
Codes = npt.NDArray[np.int16]

TOKENS = CACHE / "tokens"
AGENT_SHARDS = ("replies", "styled", "voices")  # names of those with the agent's recordings begin with one of these
_BATCH = 24
_CLEAN = 0.4


@dataclass
class Utterance:
    """A clip as the language model sees it. Held-out callers have two views, clean and degraded; others one a take."""

    clip: Clip
    views: list[Codes] = field(default_factory=list)


def encode_waves(checkpoint: Checkpoint, waves: Sequence[Waveform]) -> list[Codes]:
    """Tokens of whole clips at 16 kHz, batched by length.

    In bfloat16: one code in 400 differs from serving's float32, which is less than any line does.
    """
    out: list[Codes] = [np.zeros(0, np.int16)] * len(waves)
    order = sorted(range(len(waves)), key=lambda i: len(waves[i]))
    for start in range(0, len(order), _BATCH):
        chosen = order[start : start + _BATCH]
        clips = [torch.from_numpy(waves[i]) for i in chosen]
        features, frames = checkpoint.log_mel(clips, checkpoint.token_samples)
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            codes, lengths = checkpoint.encoder(features, frames)
        for i, row, length in zip(chosen, codes, lengths, strict=True):
            out[i] = row[:length].numpy().astype(np.int16)
    return out


def _views(path: Path, wave: Waveform, rng: np.random.Generator) -> list[Waveform]:
    if path.name.startswith(AGENT_SHARDS):
        return [soxr.resample(wave, REPLY_RATE, SPEECH_RATE).astype(np.float32)]
    placed = augment.place(wave, rng)
    if "-train-" not in path.name:
        return [placed, augment.degrade(placed, rng)]
    return [placed if rng.random() < _CLEAN else augment.degrade(placed, rng)]


def tokens_folder(revision: str) -> Path:
    """Tokens of one tokenizer; another's are no use to anyone who has this one."""
    return TOKENS / revision


def encode_shard(checkpoint: Checkpoint, path: Path, take: int, seed: int) -> None:
    """Writes the tokens of one shard unless this tokenizer's are there.

    Another take places and degrades training callers anew: where speech starts changes its tokens. Replies are encoded
    as they are.
    """
    target = tokens_folder(checkpoint.revision) / f"{path.name}@{take}.json"
    if target.exists():
        return
    rng = np.random.default_rng([seed, take, *path.name.encode()])
    clips: list[Clip] = []
    waves: list[list[Waveform]] = []
    for clip, wave in shards.read_shard(path):
        clips.append(clip)
        waves.append(_views(path, wave, rng))
    codes = iter(encode_waves(checkpoint, [view for views in waves for view in views]))
    rows = [
        {"clip": asdict(clip), "views": [next(codes).tolist() for _ in views]}
        for clip, views in zip(clips, waves, strict=True)
    ]
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_suffix(f".{os.getpid()}.part")
    temporary.write_text(json.dumps({"revision": checkpoint.revision, "rows": rows}))
    temporary.replace(target)


# Names of shards; training callers are put on a line anew at each take.
_HEARD: dict[Language, tuple[str, ...]] = {"en": ("callers-train", "reading-train"), "zh": ("callers-zh-train",)}
HELD_OUT: dict[Language, tuple[str, ...]] = {"en": ("callers-test", "strangers-test"), "zh": ("callers-zh-test",)}
_ONCE = ("callers-validation", *HELD_OUT["en"], *HELD_OUT["zh"])


def encode_recordings(checkpoint: Checkpoint, takes: Mapping[Language, int], seed: int, folder: Path = SPEECH) -> None:
    """Everything that the language model learns from or is tested with; held-out callers and answers once."""
    once = [path for name in _ONCE for path in shards.list_shards(folder, name)]
    spoken = [path for name in AGENT_SHARDS[:2] for path in sorted(shards.list_shards(folder, name))]
    jobs = [(path, 0) for path in (*once, *spoken)]
    for language, names in _HEARD.items():
        jobs += [
            (path, take)
            for name in names
            for path in shards.list_shards(folder, name)
            for take in range(takes[language])
        ]
    for path, take in tqdm(jobs, desc="tokens", unit="shard"):
        encode_shard(checkpoint, path, take, seed)


def read_utterances(path: Path) -> list[Utterance]:
    rows = json.loads(path.read_text())["rows"]
    return [Utterance(Clip(**row["clip"]), [np.array(v, np.int16) for v in row["views"]]) for row in rows]
