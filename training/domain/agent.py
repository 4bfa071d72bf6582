"""Recordings of the agent: each answer in its own voice, in both languages and in every style that callers ask for."""

from collections.abc import Callable, Iterable, Sequence
from random import Random
from typing import cast

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from training import voices
from training.domain.answers import answers, confirmation, recollection, styles_of
from training.domain.personas import DEFAULTS
from training.domain.replies import all_fixed
from training.domain.sentences import Style
from training.languages import Language
from training.paths import REPLY_RATE
from training.prosody import STYLE_MANNERS, Manner, random_voice, render
from training.shards import Clip, is_written, list_shards, read_index, read_shard, write_shard
from training.splits import Split, split_of
from training.synthesis import CLIPS_A_SHARD, KOKORO_CLIPS_A_SHARD, SPEECH, make_shards

Waveform = npt.NDArray[np.float32]

# A plain recording, its place in the shard and randomness -> what is made of it.
_Maker = Callable[[Clip, Waveform, int, Random], list[tuple[Clip, Waveform]]]

# One woman's voice in both languages, as far as two synthesisers can: hibari is distilled from Kokoro's af_heart.
AGENT: dict[Language, voices.Speaker] = {
    "en": voices.Speaker(),
    "zh": voices.Speaker("kokoro", "zf_xiaobei+af_heart@0.50"),
}
# The agent's voices, as they are made of those recordings. The judge hears 1 % of 100 words wrong in either.
SECOND_VOICE = "second"
AGENT_VOICES: dict[str, Manner] = {"": Manner(), SECOND_VOICE: Manner(pitch=0.55, formants=0.85)}
# Sources of recordings in other styles and voices, by language.
PLAIN: dict[Language, tuple[str, ...]] = {"en": ("replies", "replies-heard"), "zh": ("replies-zh", "replies-heard-zh")}
_OTHER_VOICES, _SECOND = 0.3, 0.5


def clips_a_shard(language: Language) -> int:
    """Kokoro, which speaks Mandarin here, takes minutes for a hundred."""
    return CLIPS_A_SHARD if language == "en" else KOKORO_CLIPS_A_SHARD


def style_of(clip: Clip) -> Style:
    """How an answer's recording is spoken; recordings from before there were moods call it pace."""
    return cast(Style, clip.slots.get("style") or clip.slots.get("pace", ""))


def _make_spoken(name: str, texts: Sequence[str], seed: int, language: Language, first: int = 0) -> None:
    """Shards `name` of the agent's voice at 22.05 kHz, short silence at both ends."""
    size = clips_a_shard(language)

    def make(_: Random, place: int) -> tuple[Clip, Waveform]:
        text = texts[place]
        return Clip(text, voices.AGENT), voices.say(text, AGENT[language], REPLY_RATE)

    make_shards(name, len(texts) // size, make, seed, rate=REPLY_RATE, clips_a_shard=size, first=first)


def make_replies(count: int, split: Split, seed: int, language: Language = "en", first: int = 0) -> None:
    """Shards `replies-<split>` (`replies-zh-<split>`) of plain answers; nothing twice."""
    name = f"{PLAIN[language][0]}-{split}"
    said: dict[str, None] = {}  # in order, each once
    source = answers(Random(f"{seed} {name}"), split, language)
    while len(said) < count * clips_a_shard(language):
        said[next(source)] = None
    _make_spoken(name, list(said), seed, language, first)


def _heard_numbers(paths: Iterable[Sequence[Clip]], language: Language) -> list[str]:
    said: dict[str, None] = {}
    for clips in paths:
        for clip in clips:
            if number := clip.slots.get("number"):
                said[confirmation(number, language)] = None
                if split_of(f"recall {number}") == "train" and len(said) % 3:
                    said[recollection(number, language)] = None
    return list(said)


def make_number_replies(split: Split, seed: int, limit: int, language: Language = "en") -> None:
    """Shards `replies-heard-<split>`: the answers to the numbers that callers gave; to be made when callers are."""
    callers = "callers" if language == "en" else "callers-zh"
    texts = _heard_numbers((read_index(path) for path in list_shards(SPEECH, f"{callers}-{split}")), language)
    _make_spoken(f"{PLAIN[language][1]}-{split}", texts[: limit * clips_a_shard(language)], seed, language)


def make_styled(split: Split, seed: int, language: Language = "en") -> None:
    """Shards `replies-styled-<split>-` of what the plain shards hold, one for each of them, in other styles."""
    usual = {text for facts in DEFAULTS.values() for text in all_fixed(facts)}

    def make(clip: Clip, wave: Waveform, place: int, rng: Random) -> list[tuple[Clip, Waveform]]:
        return [
            (Clip(clip.text, clip.voice, slots={"style": style}), render(wave, REPLY_RATE, STYLE_MANNERS[style]))
            for style in styles_of(clip.text, language, usual, rng)
        ]

    _make_from_plain("styled", split, seed, language, make)


def make_voices(split: Split, seed: int, language: Language = "en") -> None:
    """Shards `voices-<split>-`: some of the same recordings in the second voice and in random other ones.

    Such a recording lies beside the one it was made from, whose place in its shard is the slot `of`: the tokens of the
    one may go with the sound of the other.
    """

    def make(clip: Clip, wave: Waveform, place: int, rng: Random) -> list[tuple[Clip, Waveform]]:
        if style_of(clip) or rng.random() >= _OTHER_VOICES:
            return []
        second = rng.random() < _SECOND
        manner = AGENT_VOICES[SECOND_VOICE] if second else random_voice(rng)
        name = SECOND_VOICE if second else f"p{manner.pitch:.2f}f{manner.formants:.2f}"
        return [(Clip(clip.text, name, slots={"of": str(place)}), render(wave, REPLY_RATE, manner))]

    _make_from_plain("voices", split, seed, language, make)


def source_shard(name: str) -> str:
    """The plain shard that a shard of another style or voice was made from."""
    return name.removeprefix("voices-").removeprefix("styled-")


def _make_from_plain(kind: str, split: Split, seed: int, language: Language, make: _Maker) -> None:
    sources = [path for name in PLAIN[language] for path in list_shards(SPEECH, f"{name}-{split}")]
    for path in tqdm(sources, desc=f"speech: {kind}", unit="shard"):
        stem, _, number = path.name.rpartition("-")
        name = f"{kind}-{stem}"
        if is_written(SPEECH, name, int(number)):
            continue
        rng = Random(f"{seed} {name} {number}")
        made = [item for place, (clip, wave) in enumerate(read_shard(path)) for item in make(clip, wave, place, rng)]
        if made:
            write_shard(SPEECH, name, int(number), made, REPLY_RATE)
