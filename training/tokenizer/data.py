"""Batches of degraded speech with its text as Whisper tokens."""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from services.tokenizer.features import FeatureConfig, LogMel
from training import augment, corpus_zh, shards
from training.corpus import written
from training.languages import language_of
from training.tokenizer.model import END, LANGUAGES, NO_TIMESTAMPS, START, TRANSCRIBE
from training.tokenizer.whisper import text_tokenizer

Waveform = npt.NDArray[np.float32]

LOG_MEL_MAX = 1.5
FEATURES = FeatureConfig(sample_rate=16_000, n_fft=400, hop=160, bins=80, log_mel_max=LOG_MEL_MAX)
TOKEN_SAMPLES = 1280
_POOL = 512  # clips from which batches of like length are cut
_MANDARIN_SHARE = 0.38
_COMMON_IDS = 12_000  # the more common of Whisper's ids can always come out, for data that joins later


@functools.cache
def log_mel() -> LogMel:
    return LogMel(FEATURES)


def whisper_ids(text: str) -> list[int]:
    """Ids as Whisper's decoder writes them: start, language and task marks, the sentence, the end mark."""
    language = language_of(text)
    said = " " + written(text) if language == "en" else text
    ids: list[int] = text_tokenizer().encode(said, add_special_tokens=False).ids
    return [START, LANGUAGES[language], TRANSCRIBE, NO_TIMESTAMPS, *ids, END]


def mel_batch(waves: Sequence[Waveform]) -> tuple[Tensor, Tensor]:
    """Log-mel of several clips as one batch, as the serving code makes it."""
    batch: tuple[Tensor, Tensor] = log_mel()([torch.from_numpy(wave) for wave in waves], TOKEN_SAMPLES)
    return batch


@dataclass
class Batch:
    features: Tensor
    clean: Tensor
    lengths: Tensor
    text: Tensor  # indices into the vocabulary, padded with -1


class Speech:
    """All clips of some shards, samples left on disk."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.texts: list[str] = []
        self._where: list[tuple[npt.NDArray[np.int16], int, int]] = []
        for path in paths:
            samples = np.load(path.with_suffix(".npy"), mmap_mode="r")
            start = 0
            for clip, length in zip(shards.read_index(path), shards.read_lengths(path), strict=True):
                self.texts.append(clip.text)
                self._where.append((samples, start, length))
                start += length

    def __len__(self) -> int:
        return len(self.texts)

    def samples(self, i: int) -> int:
        return self._where[i][2]

    def wave(self, i: int) -> Waveform:
        samples, start, length = self._where[i]
        return samples[start : start + length].astype(np.float32) / 32768.0


def vocabulary(texts: Sequence[str]) -> Tensor:
    """Whisper ids that can come out: those of the texts, of common Mandarin words, and the commoner ones of all."""
    mandarin = "".join(corpus_zh.common_words())
    marks = {START, *LANGUAGES.values(), TRANSCRIBE, NO_TIMESTAMPS, END}
    used = {token for text in {*texts, mandarin} for token in whisper_ids(text)}
    return torch.tensor(sorted(used | marks | set(range(_COMMON_IDS))))


class Batches:
    """Endless batches of about `seconds` of speech, clips of like length together."""

    def __init__(self, speech: Speech, words: Tensor, seconds: float, seed: int) -> None:
        self._speech = speech
        self._index = {int(token): i for i, token in enumerate(words)}
        self._samples = int(seconds * FEATURES.sample_rate)
        self._rng = np.random.default_rng(seed)
        known = {text: whisper_ids(text) for text in set(speech.texts)}
        self._ids = [[self._index.get(token, -1) for token in known[text]] for text in speech.texts]
        usable = [i for i, ids in enumerate(self._ids) if -1 not in ids]
        self._mandarin = np.array([i for i in usable if language_of(speech.texts[i]) == "zh"], np.int64)
        self._english = np.array([i for i in usable if language_of(speech.texts[i]) == "en"], np.int64)

    def _pool(self) -> list[int]:
        """Clips for some batches; Mandarin takes its share however little of it there is."""
        mandarin = round(_POOL * _MANDARIN_SHARE) if len(self._mandarin) else 0
        drawn = [*self._rng.choice(self._english, _POOL - mandarin)]
        if mandarin:
            drawn += [*self._rng.choice(self._mandarin, mandarin)]
        return sorted(map(int, drawn), key=self._speech.samples)

    def __iter__(self) -> Iterator[Batch]:
        while True:
            pool = self._pool()
            batches: list[list[int]] = [[]]
            for i in pool:
                if batches[-1] and (self._speech.samples(i) + 12_000) * (len(batches[-1]) + 1) > self._samples:
                    batches.append([])
                batches[-1].append(i)
            for number in self._rng.permutation(len(batches)):
                yield self._make(batches[number])

    def _make(self, clips: Sequence[int]) -> Batch:
        rng = self._rng
        placed = [augment.place(augment.another_voice(self._speech.wave(i), rng), rng) for i in clips]
        heard = [augment.degrade(wave, rng) for wave in placed]
        features, lengths = mel_batch(heard)
        clean, _ = mel_batch(placed)
        longest = max(len(self._ids[i]) for i in clips)
        text = torch.full((len(clips), longest), -1)
        for row, i in enumerate(clips):
            text[row, : len(self._ids[i])] = torch.tensor(self._ids[i])
        return Batch(features, clean, lengths, text)
