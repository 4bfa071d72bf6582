"""Rendering of texts to shards of speech: wide text for the tokenizer, callers and replies for the language model."""

from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from training import corpus, corpus_zh, voices
from training.domain.numbers import as_said, random_number
from training.paths import CACHE, SPEECH_RATE
from training.shards import Clip, is_written, write_shard
from training.splits import Split, split_of

Waveform = npt.NDArray[np.float32]

SPEECH = CACHE / "speech"
CLIPS_A_SHARD = 500
KOKORO_CLIPS_A_SHARD = 100  # Kokoro takes five minutes for so many
_LONGEST = 10.0  # seconds; longer ones slow a batch down more than they teach


def silence(seconds: float, rate: int = SPEECH_RATE) -> Waveform:
    return np.zeros(int(seconds * rate), np.float32)


def spelled(number: str, speaker: voices.Speaker, rng: Random) -> Waveform:
    """A number said digit after digit, each with its own breath: the pauses vary from none to a second."""
    pace = rng.choice([0.03, 0.1, 0.25, 0.45, 0.8])
    mark = rng.choice([".", ".", ",", "?"])
    pieces: list[Waveform] = []
    words = number.split()
    while words:
        count = 1 if rng.random() < 0.8 else 2
        group, words = " ".join(words[:count]), words[count:]
        spoken = voices.trim(voices.say(corpus.written(group)[:-1] + mark, speaker, SPEECH_RATE), SPEECH_RATE, 0.02)
        pieces += [spoken * rng.uniform(0.6, 1.0), silence(rng.uniform(0.3, 1.3) * pace)]
    return np.concatenate(pieces[:-1])


def render(text: str, speaker: voices.Speaker, rng: Random, spell: bool = False) -> Waveform:
    """A caller's sentence at 16 kHz; with `spell`, a bare number digit after digit."""
    if spell:
        return spelled(text, speaker, rng)
    return voices.say(corpus.written(text, rng=rng), speaker, SPEECH_RATE)


def _wide_clip(rng: Random, split: Split) -> tuple[Clip, Waveform]:
    speaker = voices.random_speaker(rng)
    kind = rng.random()
    if kind < 0.24:
        number = as_said(random_number(rng, split, rng.choice([1, 2, 3, 3, 4, 4, 4, 5, 6, 7])), rng)
        return Clip(number, speaker.name), render(number, speaker, rng, spell=kind < 0.08)
    while True:
        text = corpus.wide_text(rng)
        if split_of(text) == split:
            return Clip(text, speaker.name), render(text, speaker, rng)


def make_shards(
    name: str,
    count: int,
    make: Callable[[Random, int], tuple[Clip, Waveform]],
    seed: int,
    rate: int = SPEECH_RATE,
    clips_a_shard: int = CLIPS_A_SHARD,
    folder: Path = SPEECH,
    first: int = 0,
) -> None:
    """Writes the shards `first..count-1` that are not there yet; each depends on its number and the seed alone.

    `make` gets the shard's randomness and the clip's place among all clips; it is asked again for a clip that is too
    long or too short.
    """
    for number in tqdm(range(first, count), desc=f"speech: {name}", unit="shard"):
        if is_written(folder, name, number):
            continue
        rng = Random(f"{seed} {name} {number}")
        clips: list[tuple[Clip, Waveform]] = []
        while len(clips) < clips_a_shard:
            clip, wave = make(rng, number * clips_a_shard + len(clips))
            if 0.15 * rate < len(wave) < _LONGEST * rate:
                clips.append((clip, wave))
        write_shard(folder, name, number, clips, rate)


def make_wide(count: int, split: Split, seed: int) -> None:
    """Shards `wide-<split>` of general English, digits and scrambled words in many voices."""
    make_shards(f"wide-{split}", count, lambda rng, _: _wide_clip(rng, split), seed)


def _mandarin_clip(rng: Random, split: Split) -> tuple[Clip, Waveform]:
    speaker = voices.random_mandarin_speaker(rng, split)
    while True:
        if rng.random() < 0.22:
            text = corpus_zh.digits(rng, rng.choice([2, 3, 4, 4, 4, 5, 6, 8]))
        else:
            text = corpus_zh.wide_text(rng)
        if split_of(text) == split:
            return Clip(text, speaker.name), voices.say(text + rng.choice(".?"), speaker, SPEECH_RATE)


def make_mandarin(count: int, split: Split, seed: int, first: int = 0) -> None:
    """Shards `mandarin-<split>` of general Mandarin and digits in Kokoro's voices."""
    make_shards(
        f"mandarin-{split}",
        count,
        lambda rng, _: _mandarin_clip(rng, split),
        seed,
        clips_a_shard=KOKORO_CLIPS_A_SHARD,
        first=first,
    )
