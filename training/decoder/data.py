"""Speech tokens and mel of the agent's recordings, and batches of windows of them."""

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
import numpy.typing as npt
import soxr
import torch
from torch import Tensor

from services.decoder.flow.model import TokenToMel
from services.decoder.mel import FFT, log_mel
from services.tokenizer import weights as tokenizer_weights
from training.corpus import DIGITS
from training.decoder import agent_voice
from training.paths import CACHE, REPLY_RATE, SPEECH_RATE, WEIGHTS
from training.shards import list_shards, read_shard
from training.synthesis import SPEECH
from training.tokenizer.encode import TOKENS, encode_waves, read_utterances

Waveform = npt.NDArray[np.float32]

TOKENIZER = WEIGHTS / "tokenizer"
_CODES = CACHE / "decoder" / "codes"
_FLOOR = -11.5
_WIDE_SHARDS, _HEARD_SHARDS = 4, 2


@dataclass(frozen=True)
class Recording:
    """Codes (t,) and log mel (80, frames) of a recording; the samples only where they are asked for."""

    text: str
    kind: str
    wave: Waveform | None
    codes: Tensor
    mel: Tensor


def training_shards() -> list[Path]:
    """Wide text first, then the replies that the language model learns, where they have been synthesised."""
    wide = list_shards(agent_voice.FOLDER, "agent-train")[:_WIDE_SHARDS]
    return [*wide, *list_shards(SPEECH, "replies-train"), *list_shards(SPEECH, "replies-heard-train")[:_HEARD_SHARDS]]


def with_everyday_sentences(found: Sequence[Recording], everyday: Sequence[str], times: int) -> list[Recording]:
    """The recordings, those of `everyday` texts `times` times: every call has these sentences, and among thousands of
    read-back numbers each would hardly be seen."""
    repeated = set(everyday)
    return [copy for item in found for copy in [item] * (times if item.text in repeated else 1)]


def everyday_sentences(found: Sequence[Recording]) -> list[str]:
    """Texts that read no number back digit by digit."""
    return [item.text for item in found if sum(word.strip(".,?").lower() in DIGITS for word in item.text.split()) < 3]


def test_shards() -> list[Path]:
    """Texts that are in no training shard."""
    return list_shards(agent_voice.FOLDER, "agent-test")


def recordings(paths: Sequence[Path], limit: int | None = None, with_waves: bool = False) -> list[Recording]:
    """All clips of the shards, at most `limit`; codes are cached per revision of the tokenizer."""
    found: list[Recording] = []
    for path in paths:
        clips = list(read_shard(path))
        for (clip, wave), codes in zip(clips, _codes(path, [wave for _, wave in clips]), strict=True):
            if len(wave) > FFT:
                mel = log_mel(torch.from_numpy(wave)[None])[0]
                found.append(Recording(clip.text, clip.intent, wave if with_waves else None, codes.long(), mel.half()))
    return found[:limit]


@functools.cache
def _tokenizer() -> tokenizer_weights.Checkpoint:
    return tokenizer_weights.load(TOKENIZER, "cpu")


def _codes(path: Path, waves: Sequence[Waveform]) -> list[Tensor]:
    """Codes of each clip of a shard, made once per revision of the tokenizer."""
    shared = TOKENS / f"{path.name}@0.json"  # encoded for the language model already
    if shared.exists() and json.loads(shared.read_text())["revision"] == _tokenizer().revision:
        return [torch.from_numpy(utterance.views[0]) for utterance in read_utterances(shared)]
    cache = _CODES / _tokenizer().revision / f"{path.name}.pt"
    if not cache.exists():
        heard = [soxr.resample(wave, REPLY_RATE, SPEECH_RATE).astype(np.float32) for wave in waves]
        cache.parent.mkdir(parents=True, exist_ok=True)
        torch.save([torch.from_numpy(codes) for codes in encode_waves(_tokenizer(), heard)], cache)
    codes: list[Tensor] = torch.load(cache, weights_only=True)
    return codes


@dataclass(frozen=True)
class Batch:
    codes: Tensor  # (b, t)
    lengths: Tensor  # (b,) tokens
    mel: Tensor  # (b, 80, frames)
    prompt: Tensor  # (b, 80, frames), zeros after the known beginning
    mask: Tensor  # (b, 1, frames)


class Windows:
    """Random windows of recordings, as a stream sees them: from anywhere, to anywhere, half of them with the mel of
    their beginning given as prompt."""

    def __init__(self, found: Sequence[Recording], flow: TokenToMel, seed: int, longest: int = 70) -> None:
        self._recordings = sorted((item for item in found if len(item.codes) > 2), key=lambda item: len(item.codes))
        self._flow = flow
        self._rng = Random(seed)
        self._longest = longest

    def batch(self, size: int) -> Batch:
        """Windows of recordings of about one length."""
        at = self._rng.randrange(len(self._recordings) - size)
        windows = [self._window(item) for item in self._recordings[at : at + size]]
        tokens, frames = (max(len(window[part]) for window in windows) for part in (0, 1))
        codes = torch.zeros(size, tokens, dtype=torch.long)
        mel, prompt = torch.full((size, frames, 80), _FLOOR), torch.zeros(size, frames, 80)
        mask = torch.zeros(size, 1, frames)
        for row, (window_codes, window_mel) in enumerate(windows):
            codes[row, : len(window_codes)] = window_codes
            mel[row, : len(window_mel)] = window_mel
            mask[row, :, : len(window_mel)] = 1
            if self._rng.random() < 0.5:
                known = self._rng.randrange(int(0.8 * len(window_mel)) + 1)
                prompt[row, :known] = window_mel[:known]
        lengths = torch.tensor([len(window[0]) for window in windows])
        return Batch(codes, lengths, mel.transpose(1, 2), prompt.transpose(1, 2), mask)

    def _window(self, item: Recording) -> tuple[Tensor, Tensor]:
        """Codes (t,) and mel (frames, 80). A mel a little shorter than its tokens is followed by silence."""
        start, stop = 0, len(item.codes)
        if self._rng.random() < 0.5:
            start = self._rng.randrange(max(1, stop // 2))
        if self._rng.random() < 0.4 and stop - start > 5:
            stop = self._rng.randrange(start + 5, stop + 1)
        stop = min(stop, start + self._longest)
        first, last = self._flow.frames(start), self._flow.frames(stop)
        mel = item.mel[:, first:last].float().T
        if len(mel) < last - first:
            mel = torch.cat([mel, torch.full((last - first - len(mel), 80), _FLOOR)])
        return item.codes[start:stop], mel
