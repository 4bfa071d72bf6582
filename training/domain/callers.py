"""Recordings of callers: each a request of the domain in some voice."""

from random import Random

import numpy as np
import numpy.typing as npt

from training import corpus, kokoro, voices
from training.domain.numbers import as_said, random_number
from training.domain.replies import Request
from training.domain.requests import INTENTS, bare_number, draw, make_request
from training.domain.sentences import DAYS, TIMES
from training.domain.wordings import PATTERNS
from training.paths import SPEECH_RATE
from training.shards import Clip
from training.splits import Split, split_of
from training.synthesis import KOKORO_CLIPS_A_SHARD, make_shards, render, silence, spelled

Waveform = npt.NDArray[np.float32]

WEIGHTS = {
    "number": 26.0, "yes": 4.0, "no": 4.0, "recall": 5.0, "repeat": 4.5, "book": 8.0, "change": 4.0, "book_day": 3.0,
    "book_time": 2.5, "book_open": 2.5, "change_open": 1.5, "hours_day": 6.5, "hours": 4.0, "address": 3.5,
    "greet": 2.5,
    "parcel": 3.0, "cancel": 3.0, "transfer": 4.0, "identity": 3.0, "other": 7.0, "noise": 2.0, "price_small": 2.2,
    "price_medium": 2.2, "price_large": 2.2, "price_all": 2.5, "bye": 3.0, "thanks": 2.5, "how": 2.0, "style": 1.2,
    "language": 1.5, "slower": 1.2, "faster": 1.2, "hours_weekend": 0.8,
}  # fmt: skip
_ALL = (*INTENTS, "noise")
_UNUSUAL_LENGTHS = 0.06
READING = "reading"  # words to be read off the tokens, no request


def _domain_words() -> tuple[str, ...]:
    words = {
        word
        for patterns in PATTERNS.values()
        for pattern in patterns
        for word in pattern.replace("[", " ").replace("]", " ").replace("|", " ").split()
        if "{" not in word
    }
    return tuple(sorted(words | set(corpus.DIGITS) | set(DAYS) | {w for t in TIMES for w in t.split()}))


_DOMAIN_WORDS = _domain_words()


def _with_spelled_number(text: str, number: str, speaker: voices.Speaker, rng: Random) -> Waveform:
    """The number said digit after digit, the words around it as usual."""
    before, _, after = text.partition(number)
    pieces = []
    if before.strip():
        pieces += [voices.say(corpus.written(before.strip(), question=False), speaker, SPEECH_RATE)]
        pieces += [silence(rng.uniform(0.05, 0.6))]
    pieces += [spelled(number, speaker, rng)]
    if after.strip():
        pieces += [silence(rng.uniform(0.05, 0.4)), voices.say(corpus.written(after.strip()), speaker, SPEECH_RATE)]
    return np.concatenate(pieces)


def _unintelligible(rng: Random, split: Split) -> Waveform:
    """Noise, or speech that nobody could understand."""
    noise = np.random.default_rng(rng.randrange(1 << 30))
    kind = rng.random()
    if kind < 0.25:
        wave = noise.standard_normal(int(rng.uniform(0.3, 2.5) * SPEECH_RATE)).astype(np.float32)
        envelope = np.interp(np.arange(len(wave)), np.linspace(0, len(wave), 6), noise.uniform(0, 1, 6))
        wave = np.convolve(wave * envelope, np.ones(rng.randrange(1, 12)) / 4, "same").astype(np.float32)
        return wave / np.float32(np.abs(wave).max() * rng.uniform(2, 30))
    text, _ = make_request(draw(WEIGHTS, rng), split, rng)
    wave = render(text, voices.random_speaker(rng, 0.0), rng)
    if kind < 0.55:
        return wave[::-1].copy()
    if kind < 0.8:
        start = rng.randrange(0, len(wave) // 2)
        return wave[start : start + int(rng.uniform(0.05, 0.14) * SPEECH_RATE)]
    width = rng.randrange(40, 80)
    return np.convolve(wave, np.ones(width, np.float32) / width, "same").astype(np.float32) * np.float32(0.5)


def _caller(rng: Random, split: Split) -> tuple[Clip, Waveform]:
    intent = draw(WEIGHTS, rng, _ALL)
    speaker = voices.random_speaker(rng)
    if intent == "noise":
        return Clip("", "noise", intent), _unintelligible(rng, split)
    return _asking(intent, speaker, rng, split)


def _asking(intent: str, speaker: voices.Speaker, rng: Random, split: Split) -> tuple[Clip, Waveform]:
    if intent == "other" and rng.random() < 0.5:
        text = corpus.wide_text(rng)
        while split_of(text) != split:
            text = corpus.wide_text(rng)
        return Clip(text, speaker.name, intent), render(text, speaker, rng)
    if intent != "number":
        text, request = make_request(intent, split, rng)
        return _clip(text, speaker, request), render(text, speaker, rng)
    number = random_number(rng, split, rng.choice([2, 7, 8]) if rng.random() < _UNUSUAL_LENGTHS else None)
    text, request = (bare_number if rng.random() < 0.45 else make_numbered)(split, rng, number)
    said = number if number in text else number.replace("zero", "oh")
    if rng.random() < 0.28:
        return _clip(text, speaker, request), _with_spelled_number(text, said, speaker, rng)
    return _clip(text, speaker, request), render(text, speaker, rng)


def make_numbered(split: Split, rng: Random, number: str) -> tuple[str, Request]:
    return make_request("number", split, rng, number)


def _clip(text: str, speaker: voices.Speaker, request: Request) -> Clip:
    return Clip(text, speaker.name, request.intent, request.slots)


def request_of(clip: Clip) -> Request:
    return Request.of(clip.intent, clip.slots)


def _reading(rng: Random, split: Split) -> tuple[Clip, Waveform]:
    speaker = voices.random_speaker(rng)
    if rng.random() < 0.45:
        number = random_number(rng, split, rng.choice([1, 2, 3, 3, 4, 4, 5, 6, 7, 8]))
        text = as_said(number, rng)
        return Clip(text, speaker.name, READING), render(text, speaker, rng, spell=rng.random() < 0.3)
    while True:
        text = corpus.scrambled(rng, _DOMAIN_WORDS)
        if split_of(text) == split:
            return Clip(text, speaker.name, READING), render(text, speaker, rng)


def make_callers(count: int, split: Split, seed: int) -> None:
    """Shards `callers-<split>`."""
    make_shards(f"callers-{split}", count, lambda rng, _: _caller(rng, split), seed)


def make_reading(count: int, seed: int) -> None:
    """Shards `reading-train`: digits and domain words in no order, to be transcribed only."""
    make_shards("reading-train", count, lambda rng, _: _reading(rng, "train"), seed)


def make_strangers(seed: int, count: int = 2) -> None:
    """Shards `strangers-test`: test wordings in voices of another synthesiser's that training has not."""

    def make(rng: Random, _: int) -> tuple[Clip, Waveform]:
        speaker = voices.Speaker("kokoro", rng.choice(kokoro.ENGLISH_UNSEEN), 1.0, rng.uniform(0.9, 1.15))
        return _asking(draw(WEIGHTS, rng), speaker, rng, "test")

    make_shards("strangers-test", count, make, seed, clips_a_shard=KOKORO_CLIPS_A_SHARD)
