"""Questions for acceptance: wordings that training never saw, and what a right answer to each must contain."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

import numpy as np
import numpy.typing as npt
import soundfile

from training import corpus, voices
from training.domain.numbers import random_number
from training.domain.replies import DAYS, TIMES, Request
from training.domain.requests import make_request, spoken_time
from training.judge import contains_in_order
from training.paths import SPEECH_RATE
from training.unseen import UNSEEN

Waveform = npt.NDArray[np.float32]

# Row of the domain's table for each intent that a single question can have.
ROWS = {
    "greet": 1, "hours": 2, "hours_day": 3, "hours_weekend": 3, "address": 4, "price_small": 5, "price_medium": 5,
    "price_large": 5, "price_all": 5, "number": 6, "parcel": 6, "book": 9, "book_day": 9, "book_open": 9, "change": 10,
    "change_open": 10, "cancel": 10, "transfer": 11, "slower": 12, "faster": 12, "identity": 13, "how": 14,
    "thanks": 14, "bye": 15, "style": 16, "language": 16, "other": 17,
}  # fmt: skip

_NEEDED: dict[str, tuple[str, ...]] = {
    "greet": ("help",),
    "hours": ("nine to six", "ten to two"),
    "hours_weekend": ("ten to two", "closed"),
    "address": ("twelve", "street"),
    "price_small": ("four",),
    "price_medium": ("seven",),
    "price_large": ("eleven",),
    "price_all": ("four", "seven", "eleven"),
    "parcel": ("parcel number",),
    "book_open": ("day",),
    "change_open": ("day",),
    "cancel": ("canceled",),
    "transfer": ("connect",),
    "slower": ("slower",),
    "faster": ("faster",),
    "identity": ("assistant",),
    "how": ("fine",),
    "thanks": ("welcome",),
    "bye": ("goodbye",),
    "style": ("sorry",),
    "language": ("sorry",),
    "other": ("cannot help",),
}

# Forty questions: each row often enough to count, the parcel number most.
_SHARES = {
    "number": 7, "parcel": 1, "hours": 2, "hours_day": 5, "address": 2, "price_small": 1, "price_medium": 1,
    "price_large": 1, "price_all": 1, "book": 4, "change": 2, "cancel": 1, "transfer": 2, "identity": 2, "greet": 1,
    "how": 1, "thanks": 1, "bye": 2, "other": 2, "slower": 1,
}  # fmt: skip


@dataclass(frozen=True)
class Question:
    """A single question of a call, and the phrases that a right answer contains."""

    text: str
    row: int
    intent: str
    needed: tuple[str, ...]

    def is_right(self, answer_transcript: str) -> bool:
        """Whether a transcript of the answer has every needed phrase, after normalisation."""
        return all(contains_in_order(answer_transcript, phrase) for phrase in self.needed)


def needed_phrases(request: Request) -> tuple[str, ...]:
    """What the answer to a request must contain. Raises KeyError for one that depends on earlier turns."""
    if request.intent == "number":
        return (request.number,)
    if request.intent in ("book", "change"):
        return ("closed",) if request.day == "Sunday" else (request.day, request.time)
    if request.intent == "book_day":
        return ("closed",) if request.day == "Sunday" else ("time", request.day)
    if request.intent == "hours_day":
        hours = {"Sunday": "closed", "Saturday": "ten to two"}
        return (hours.get(request.day, "nine to six"),)
    return _NEEDED[request.intent]


def by_hand(intent: str, rng: Random) -> tuple[str, Request]:
    """A sentence that no pattern makes, its slots filled from the test split, and what it means."""
    text = rng.choice(UNSEEN[intent])
    slots: dict[str, str] = {}
    if "{number}" in text:
        slots["number"] = random_number(rng, "test")
        text = text.replace("{number}", slots["number"])
    if "{day}" in text:
        slots["day"] = rng.choice((*DAYS, "Sunday") if intent == "hours_day" else DAYS)
        text = text.replace("{day}", slots["day"])
    if "{time}" in text:
        slots["time"] = rng.choice(TIMES)
        text = text.replace("{time}", spoken_time(slots["time"], rng))
    return text, Request(intent, **slots)


def from_patterns(intent: str, rng: Random) -> tuple[str, Request]:
    return make_request(intent, "test", rng)


def make_question(intent: str, make: Callable[[str, Random], tuple[str, Request]], rng: Random) -> Question:
    text, request = make(intent, rng)
    return Question(text, ROWS[intent], intent, needed_phrases(request))


def _is_by_hand(place: int, every: int) -> bool:
    return every > 0 and place % every == every - 1


def test_questions(n: int, seed: int, by_hand_every: int = 2) -> list[Question]:  # noqa: PT028 - not a test
    """`n` questions over the domain's rows: held-out sentences of the patterns, every second one written by hand.

    With `by_hand_every` 0 none is: then all are like the test split that training is measured on.
    """
    rng = Random(f"questions {seed}")
    cycle = [intent for intent, share in _SHARES.items() for _ in range(share)]
    rng.shuffle(cycle)
    intents = [cycle[i % len(cycle)] for i in range(n)]
    return [
        make_question(intent, by_hand if _is_by_hand(i, by_hand_every) and intent in UNSEEN else from_patterns, rng)
        for i, intent in enumerate(intents)
    ]


test_questions.__test__ = False  # type: ignore[attr-defined]  # its name is not a test's


def render(question: Question, voice_seed: int) -> Waveform:
    """The question at 16 kHz in one of the training voices, 0.2 s of silence around it."""
    speaker = voices.random_speaker(Random(voice_seed))
    wave = voices.say(corpus.written(question.text), speaker, SPEECH_RATE)
    rest = np.zeros(SPEECH_RATE // 5, np.float32)
    return np.concatenate([rest, wave, rest])


def write_questions(folder: Path, n: int, seed: int) -> None:
    """`q000.wav` and so on (16 kHz, 16 bits, mono), and `questions.json` that says what is asked and needed."""
    import json

    folder.mkdir(parents=True, exist_ok=True)
    questions = test_questions(n, seed)
    entries = []
    for i, question in enumerate(questions):
        name = f"q{i:03d}.wav"
        soundfile.write(folder / name, render(question, seed * 10_000 + i), SPEECH_RATE, subtype="PCM_16")
        entries.append({"file": name, **asdict(question)})
    (folder / "questions.json").write_text(json.dumps(entries, indent=1) + "\n")


SAMPLES = {
    "greeting": "hello can you hear me",
    "opening-hours": "what are your opening hours",
    "saturday-closing": "when do you close on Saturday",
    "address": "where are you located",
    "price-medium": "how much does a medium parcel cost",
    "parcel-number": "my parcel number is four seven one nine",
    "book-pick-up": "i would like to book a pick up on Tuesday at ten thirty",
    "speak-to-a-person": "can i talk to a real person",
    "goodbye": "thank you goodbye",
}


def write_samples(folder: Path) -> None:
    """The questions that lie in samples/, in one caller's voice."""
    speaker = voices.Speaker("hibari", shift=0.86, speed=1.0)
    folder.mkdir(parents=True, exist_ok=True)
    rest = np.zeros(SPEECH_RATE // 4, np.float32)
    for name, text in SAMPLES.items():
        wave = np.concatenate([rest, voices.say(corpus.written(text), speaker, SPEECH_RATE), rest])
        soundfile.write(folder / f"{name}.wav", wave, SPEECH_RATE, subtype="PCM_16")
