"""Which words survive the tokenizer: error rates of its recogniser by voice and line, and the judge's on the sound."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from tqdm import tqdm

from services.tokenizer import weights
from services.tokenizer.weights import Checkpoint
from training import augment, human, kokoro
from training.judge import error_rate, normalise, transcribe_in
from training.languages import language_of
from training.paths import SPEECH_RATE, Models
from training.shards import list_shards, read_shard
from training.synthesis import SPEECH
from training.tokenizer.encode import Waveform, encode_waves
from training.tokenizer.recogniser import belongs_to, read_codes

_CLIPS = 240
_SHARDS = {
    "wide text": "wide-test", "callers": "callers-test", "callers in unseen voices": "strangers-test",
    "wide Mandarin": "mandarin-test", "callers in Mandarin": "callers-zh-test",
}  # fmt: skip


@dataclass(frozen=True)
class Spoken:
    """One recording of a test set."""

    text: str
    voice: str
    wave: Waveform


def _of_shards(name: str, clips: int) -> list[Spoken]:
    found = (
        Spoken(clip.text, clip.voice, augment.framed(wave))
        for path in list_shards(SPEECH, name)
        for clip, wave in read_shard(path)
        if clip.text
    )
    return [item for item, _ in zip(found, range(clips), strict=False)]


def _of_a_person(said: Sequence[human.Said]) -> list[Spoken]:
    return [Spoken(text, "person", augment.framed(wave)) for text, wave in said]


def test_sets(clips: int) -> dict[str, list[Spoken]]:
    """By name; sets that have not been made here are left out."""
    sets = {name: _of_shards(shard, clips) for name, shard in _SHARDS.items()}
    for name in ("wide Mandarin", "callers in Mandarin"):
        unseen = [item for item in sets[name] if any(voice in item.voice for voice in kokoro.MANDARIN_UNSEEN)]
        for voice in kokoro.MANDARIN_UNSEEN:
            sets[f"{name}, unseen voice {voice}"] = [item for item in unseen if voice in item.voice]
        sets[f"{name}, training voices"] = [item for item in sets.pop(name) if item not in unseen]
    try:
        sets["digits of a person"] = _of_a_person(human.digit_strings(60))
        sets["prompts of a person"] = _of_a_person(human.prompts()[:: max(1, len(human.prompts()) // 120)])
    except RuntimeError as error:
        print(error)
    return {name: found for name, found in sets.items() if found}


test_sets.__test__ = False  # type: ignore[attr-defined]  # its name is not a test's


def _lines() -> dict[str, Callable[[Waveform], Waveform]]:
    rng = np.random.default_rng(1)
    return {
        "clean": lambda wave: wave,
        "G.711": augment.g711,
        "noise of 10 dB": lambda wave: augment.g711(augment.add_noise(wave, 10.0, rng)),
        "degraded": lambda wave: augment.degrade(wave, rng),
    }


def read(checkpoint: Checkpoint, waves: Sequence[Waveform]) -> list[str]:
    """What the recogniser reads from each wave's tokens."""
    return read_codes([code.tolist() for code in encode_waves(checkpoint, waves)])


def _usage(checkpoint: Checkpoint, sets: dict[str, list[Spoken]]) -> str:
    used = torch.zeros(checkpoint.encoder.config.codes)
    for found in sets.values():
        for code in encode_waves(checkpoint, [item.wave for item in found]):
            used += torch.bincount(torch.from_numpy(code).long(), minlength=len(used))
    share = used / used.sum()
    perplexity = torch.exp(-(share * share.clamp(min=1e-12).log()).sum())
    return f"codes used {int((used > 0).sum())} of {len(used)} by {int(used.sum())} tokens, perplexity {perplexity:.0f}"


def evaluate(models: Models, clips: int = _CLIPS, judged: int = 60) -> dict[str, float]:
    """Prints and returns error rates (words; characters in Mandarin) from tokens, `clips` recordings a set at most.

    Beside them the judge's on the sound itself, of the first `judged` recordings: no tokens could do better.
    """
    checkpoint = weights.load(models.tokenizer)
    sets = test_sets(clips)
    print(_usage(checkpoint, sets))
    if not belongs_to(checkpoint):
        print("no recogniser for this tokenizer: no error rates from tokens")
        return {}
    rates: dict[str, float] = {}
    for name, found in sets.items():
        texts = [item.text for item in found]
        size = sum(len(normalise(text)) for text in texts)
        print(f"\n{name}: {len(found)} recordings, {size} {'words' if language_of(texts[0]) == 'en' else 'characters'}")
        for line, change in _lines().items():
            heard = [change(item.wave) for item in found]
            rate = rates[f"{name}, {line}"] = error_rate(texts, read(checkpoint, heard))
            floor = ""
            if line in ("clean", "G.711"):
                chosen = range(min(judged, len(found)))
                bar = tqdm(chosen, desc="judge", leave=False)
                by_ear = [transcribe_in(language_of(texts[i]), heard[i], SPEECH_RATE) for i in bar]
                floor = f"  judge {error_rate([texts[i] for i in chosen], by_ear):6.1%} of {len(chosen)}"
            print(f"  {line:15} {rate:6.1%}{floor}", flush=True)
    return rates
