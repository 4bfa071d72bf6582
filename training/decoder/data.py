"""Speech tokens and mel of the agent's recordings, and batches of windows of them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import numpy as np
import numpy.typing as npt
import soxr
import torch
from torch import Tensor

from services.decoder.flow.model import TokenToMel
from services.decoder.mel import FFT, log_mel
from services.decoder.speaker import SpeakerEncoder
from services.tokenizer import weights as tokenizer_weights
from training.corpus import DIGITS
from training.decoder import agent_voice
from training.domain.agent import source_shard
from training.languages import Language
from training.paths import CACHE, REPLY_RATE, SPEECH_RATE, Models
from training.shards import list_shards, read_shard
from training.speaker.model import WIDTH
from training.speaker.train import FILE as SPEAKER_FILE
from training.synthesis import SPEECH
from training.tokenizer.encode import encode_waves, read_utterances, tokens_folder

Waveform = npt.NDArray[np.float32]

_CODES = CACHE / "decoder" / "codes"
_FLOOR = -11.5
_WIDE_SHARDS, _HEARD_SHARDS = 4, 2
_VECTOR_CLIPS = 8  # that the default voice's vector is taken from
_UNNAMED = 0.6
_VAGUE = 0.15  # a vector differs by about so much from one recording of a voice to the next


@dataclass(frozen=True)
class Recording:
    """Codes (t,) and log mel (80, frames) of a recording; the samples only where they are asked for.

    `speaker` (192,) is the voice's vector; none where there is no speaker encoder.
    """

    text: str
    kind: str
    wave: Waveform | None
    codes: Tensor
    mel: Tensor
    speaker: Tensor | None = None
    default: bool = True  # the voice that zeros stand for


class Analysis:
    """What turns recordings into what the flow learns from.

    Raises WeightsError when the tokenizer is not there, or the speaker encoder is no such model.
    """

    def __init__(self, models: Models) -> None:
        self.tokenizer = tokenizer_weights.load(models.tokenizer, "cpu")
        path = models.decoder / SPEAKER_FILE
        self.speaker = SpeakerEncoder(path, WIDTH) if path.exists() else None

    @property
    def codes(self) -> int:
        return self.tokenizer.encoder.config.codes

    def vector(self, wave: Waveform) -> Tensor | None:
        """Of the speaker of a recording at 22.05 kHz."""
        return None if self.speaker is None else self.speaker(wave, REPLY_RATE)


def training_shards() -> list[Path]:
    """Wide text first, then the replies that the language model learns, in both languages, in styles and voices."""
    wide = list_shards(agent_voice.FOLDER, "agent-train")[:_WIDE_SHARDS]
    heard = list_shards(SPEECH, "replies-heard-train")[:_HEARD_SHARDS]
    names = ("replies-train", "replies-zh-train", "replies-heard-zh-train", "styled-replies", "voices-replies")
    return [*wide, *heard, *(path for name in names for path in list_shards(SPEECH, name))]


def with_everyday_sentences(found: Sequence[Recording], everyday: Sequence[str], times: int) -> list[Recording]:
    """The recordings, those of `everyday` texts `times` times: every call has these sentences, and among thousands of
    read-back numbers each would hardly be seen."""
    repeated = set(everyday)
    return [copy for item in found for copy in [item] * (times if item.text in repeated else 1)]


def everyday_sentences(found: Sequence[Recording]) -> list[str]:
    """Texts that read no number back digit by digit."""
    return [item.text for item in found if sum(word.strip(".,?").lower() in DIGITS for word in item.text.split()) < 3]


def held_out_shards(language: Language) -> list[Path]:
    """Texts that are in no training shard."""
    return list_shards(agent_voice.FOLDER, "agent-test") if language == "en" else list_shards(SPEECH, "replies-zh-test")


def recordings(
    paths: Sequence[Path], analysis: Analysis, limit: int | None = None, with_waves: bool = False
) -> list[Recording]:
    """All clips of the shards, at most `limit`; codes are cached per revision of the tokenizer.

    A clip in another voice that was made from one in the agent's comes twice: with its own codes, and with those of
    the one it was made from, which is how a voice is asked for when the language model speaks.
    """
    found: list[Recording] = []
    for path in paths:
        clips = list(read_shard(path))
        sources = _codes_of_sources(path, analysis)
        vector = analysis.vector(np.concatenate([wave for _, wave in clips[:_VECTOR_CLIPS]]))
        for (clip, wave), codes in zip(clips, _codes(path, [wave for _, wave in clips], analysis), strict=True):
            if len(wave) <= FFT:
                continue
            mel = log_mel(torch.from_numpy(wave)[None])[0].half()
            other = bool(clip.slots.get("of"))
            kept = Recording(
                clip.text,
                clip.intent,
                wave if with_waves else None,
                codes.long(),
                mel,
                analysis.vector(wave) if other else vector,
                default=not other,
            )
            found.append(kept)
            if other and sources is not None:
                found.append(replace(kept, codes=sources[int(clip.slots["of"])].long()))
    return found[:limit]


def _codes_of_sources(path: Path, analysis: Analysis) -> list[Tensor] | None:
    source = path.with_name(source_shard(path.name))
    if not path.name.startswith("voices") or not source.with_suffix(".json").exists():
        return None
    return _codes(source, [wave for _, wave in read_shard(source)], analysis)


def _codes(path: Path, waves: Sequence[Waveform], analysis: Analysis) -> list[Tensor]:
    """Codes of each clip of a shard, made once per revision of the tokenizer."""
    revision = analysis.tokenizer.revision
    shared = tokens_folder(revision) / f"{path.name}@0.json"  # encoded for the language model already
    if shared.exists():
        return [torch.from_numpy(utterance.views[0]) for utterance in read_utterances(shared)]
    cache = _CODES / revision / f"{path.name}.pt"
    if not cache.exists():
        heard = [soxr.resample(wave, REPLY_RATE, SPEECH_RATE).astype(np.float32) for wave in waves]
        cache.parent.mkdir(parents=True, exist_ok=True)
        torch.save([torch.from_numpy(codes) for codes in encode_waves(analysis.tokenizer, heard)], cache)
    codes: list[Tensor] = torch.load(cache, weights_only=True)
    return codes


@dataclass(frozen=True)
class Batch:
    codes: Tensor  # (b, t)
    lengths: Tensor  # (b,) tokens
    mel: Tensor  # (b, 80, frames)
    prompt: Tensor  # (b, 80, frames), zeros after the known beginning
    mask: Tensor  # (b, 1, frames)
    speaker: Tensor  # (b, 192), zeros for the default voice


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
        speaker = torch.stack([self._speaker(item) for item in self._recordings[at : at + size]])
        return Batch(codes, lengths, mel.transpose(1, 2), prompt.transpose(1, 2), mask, speaker)

    def _speaker(self, item: Recording) -> Tensor:
        """The default voice answers to zeros, and to its own vector too."""
        silent = torch.zeros(self._flow.spk_embed_affine_layer.in_features)
        if item.speaker is None or (item.default and self._rng.random() < _UNNAMED):
            return silent
        vague: Tensor = torch.randn_like(item.speaker) * item.speaker.norm() * _VAGUE / len(silent) ** 0.5
        return item.speaker + vague

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
