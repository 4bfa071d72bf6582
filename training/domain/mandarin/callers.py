"""Recordings of callers who speak Mandarin, in Kokoro's voices."""

from random import Random

import numpy as np
import numpy.typing as npt

from training import corpus_zh, voices
from training.domain.callers import WEIGHTS
from training.domain.mandarin.requests import INTENTS, bare_number, make_request
from training.domain.numbers import random_number
from training.domain.requests import draw
from training.paths import SPEECH_RATE
from training.shards import Clip
from training.splits import Split, split_of
from training.synthesis import KOKORO_CLIPS_A_SHARD, make_shards, silence

Waveform = npt.NDArray[np.float32]

_BARE, _SPELLED = 0.5, 0.25
_WIDE = 0.5  # of requests that cannot be served


def _spelled(number: str, speaker: voices.Speaker, rng: Random) -> Waveform:
    """Digits in groups of one to three, each with its own breath."""
    pace = rng.choice([0.05, 0.15, 0.3, 0.6])
    pieces: list[Waveform] = []
    while number:
        count = rng.choice([1, 1, 2, 2, 3])
        group, number = number[:count], number[count:]
        spoken = voices.trim(voices.say(group + rng.choice("。，。？"), speaker, SPEECH_RATE), SPEECH_RATE, 0.02)
        pieces += [spoken * rng.uniform(0.6, 1.0), silence(rng.uniform(0.3, 1.3) * pace)]
    return np.concatenate(pieces[:-1])


def _caller(rng: Random, split: Split) -> tuple[Clip, Waveform]:
    intent = draw(WEIGHTS, rng, INTENTS)
    speaker = voices.random_mandarin_speaker(rng, split)
    if intent == "other" and rng.random() < _WIDE:
        text = corpus_zh.wide_text(rng)
        while split_of(text) != split:
            text = corpus_zh.wide_text(rng)
        return Clip(text, speaker.name, intent, {"language": "zh"}), voices.say(text + "。", speaker, SPEECH_RATE)
    if intent == "number" and rng.random() < _BARE:
        text, request = bare_number(split, rng)
        clip = Clip(text, speaker.name, intent, request.slots)
        if rng.random() < _SPELLED / _BARE:
            return clip, _spelled(text, speaker, rng)
        return clip, voices.say(text + "。", speaker, SPEECH_RATE)
    number = random_number(rng, split) if intent == "number" else None
    text, request = make_request(intent, split, rng, number)
    return Clip(text, speaker.name, intent, request.slots), voices.say(text + rng.choice("。？"), speaker, SPEECH_RATE)


def make_mandarin_callers(count: int, split: Split, seed: int, first: int = 0) -> None:
    """Shards `callers-zh-<split>`."""
    make_shards(
        f"callers-zh-{split}",
        count,
        lambda rng, _: _caller(rng, split),
        seed,
        clips_a_shard=KOKORO_CLIPS_A_SHARD,
        first=first,
    )
