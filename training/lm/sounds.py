"""Sounds that are no speech, and what an exported language model answers to them: nothing may be made up."""

import numpy as np
import numpy.typing as npt

from services.tokenizer.weights import Checkpoint as Tokenizer
from training.domain.personas import DEFAULTS, Bilingual
from training.domain.replies import SENTENCES, say
from training.domain.sentences import Answer
from training.lm.measures import kind_of
from training.lm.speaker import Score, Speaker
from training.paths import SPEECH_RATE
from training.tokenizer.encode import encode_waves

Waveform = npt.NDArray[np.float32]


def no_speech(count: int, seed: int) -> dict[str, list[Waveform]]:
    """Silence with a little noise, music, ring tones and keys, 1 to 4 seconds each at 16 kHz."""
    rng = np.random.default_rng(seed)

    def times(low: float = 1.0, high: float = 4.0) -> Waveform:
        return (np.arange(int(rng.uniform(low, high) * SPEECH_RATE)) / SPEECH_RATE).astype(np.float32)

    def silence() -> Waveform:
        return np.asarray(rng.standard_normal(len(times())) * 10 ** rng.uniform(-5, -2.5), np.float32)

    def ring() -> Waveform:
        t = times()
        pair = (425.0,) if rng.random() < 0.5 else (440.0, 480.0)
        tones = np.sum([np.sin(2 * np.pi * hertz * t) for hertz in pair], axis=0)
        wave: Waveform = (0.2 * tones * (t % 1.5 < 1.0)).astype(np.float32)
        return wave

    def keys() -> Waveform:
        t = times(0.4, 1.5)
        low, high = rng.choice([697, 770, 852, 941]), rng.choice([1209, 1336, 1477])
        tones = np.sin(2 * np.pi * low * t) + np.sin(2 * np.pi * high * t)
        wave: Waveform = (0.25 * tones * (t % 0.2 < 0.1)).astype(np.float32)
        return wave

    def music() -> Waveform:
        t = times(2.0, 4.0)
        wave = np.zeros(len(t))
        beat = rng.uniform(0.25, 0.6)
        for start in np.arange(0, t[-1], beat):
            root = 110 * 2 ** (rng.integers(0, 24) / 12)
            for note in (0, rng.choice([3, 4]), 7):
                since = np.maximum(t - start, 0)
                tone = sum(np.sin(2 * np.pi * root * 2 ** (note / 12) * k * since) / k**1.5 for k in range(1, 6))
                wave += (t >= start) * np.exp(-3 * since) * tone
        return np.asarray(0.3 * wave / max(1e-6, float(np.abs(wave).max())), np.float32)

    makers = {"silence": silence, "a ring tone": ring, "keys": keys, "music": music}
    return {name: [make() for _ in range(count)] for name, make in makers.items()}


def made_up(speaker: Speaker, tokenizer: Tokenizer, count: int, seed: int) -> dict[str, Score]:
    """What is answered to sounds that are no speech: not understood (or nothing) is right; orders never are."""
    scores: dict[str, Score] = {}
    persona = Bilingual(DEFAULTS["en"], DEFAULTS["zh"])
    not_caught = {say(Answer("noise"), persona, language) for language in SENTENCES} | {""}
    orders = {
        kind_of(sentences.say(Answer(name, number="one", day="Monday", time="ten")))
        for sentences in SENTENCES.values()
        for name in ("confirmation", "recollection", "booked", "moved", "cancel", "noted")
    }
    for name, waves in no_speech(count, seed).items():
        right, harmless = Score(), Score()
        codes = encode_waves(tokenizer, waves)
        for ids in speaker.answer([[*speaker.opening(persona), *speaker.ask(code.tolist())] for code in codes]):
            said = speaker.text(ids)
            right.add(said in not_caught, repr(said))
            harmless.add(kind_of(said) not in orders, repr(said))
        scores[f"{name}: not caught"], scores[f"{name}: no order made up"] = right, harmless
    return scores
