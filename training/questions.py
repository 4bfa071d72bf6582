"""Questions for acceptance: wordings that training never saw, and what a right answer to each must contain."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

import numpy as np
import numpy.typing as npt
import soundfile

from training import corpus, kokoro, voices
from training.domain.mandarin import requests as mandarin_requests
from training.domain.numbers import random_number
from training.domain.replies import LANGUAGE_ASKED, REPEATED, SENTENCES, Request
from training.domain.requests import make_request, spoken_time
from training.domain.sentences import DAYS, TIMES
from training.judge import contains_in_order
from training.languages import Language, language_of
from training.paths import SPEECH_RATE
from training.unseen import UNSEEN
from training.unseen_zh import UNSEEN_ZH

Waveform = npt.NDArray[np.float32]

# Row of the domain's table for each intent that a single question can have.
ROWS = {
    "greet": 1, "hours": 2, "hours_day": 3, "hours_weekend": 3, "address": 4, "price_small": 5, "price_medium": 5,
    "price_large": 5, "price_all": 5, "number": 6, "parcel": 6, "book": 9, "book_day": 9, "book_open": 9, "change": 10,
    "change_open": 10, "cancel": 10, "transfer": 11, "slower": 12, "faster": 12, "identity": 13, "how": 14,
    "thanks": 14, "bye": 15, "style": 16, "language": 16, "happy": 16, "sad": 16, "calm": 16, "normal": 16,
    "chinese": 16, "english": 16, "repeat_slow": 12, "repeat_fast": 12, "repeat_happy": 16, "repeat_sad": 16,
    "repeat_calm": 16, "repeat_chinese": 16, "repeat_english": 16, "other": 17,
}  # fmt: skip

_NEEDED: dict[Language, dict[str, tuple[str, ...]]] = {
    "en": {
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
        "happy": ("happy",),
        "sad": ("sad",),
        "calm": ("calm",),
        "normal": ("normally",),
        "english": ("english",),
    },
    "zh": {
        "greet": ("可以帮",),
        "hours": ("九点到下午六点", "十点到下午两点"),
        "hours_weekend": ("十点到下午两点", "休息"),
        "address": ("码头街", "十二号"),
        "price_small": ("四元",),
        "price_medium": ("七元",),
        "price_large": ("十一元",),
        "price_all": ("四元", "七元", "十一元"),
        "parcel": ("单号",),
        "book_open": ("哪一天",),
        "change_open": ("哪一天",),
        "cancel": ("取消",),
        "transfer": ("人工",),
        "slower": ("慢一点",),
        "faster": ("快一点",),
        "identity": ("助手",),
        "how": ("很好",),
        "thanks": ("不客气",),
        "bye": ("再见",),
        "style": ("不好意思",),
        "language": ("不好意思",),
        "other": ("帮不了",),
        "happy": ("开心",),
        "sad": ("难过",),
        "calm": ("平静",),
        "normal": ("正常",),
        "chinese": ("中文",),
    },
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
    language: Language = "en"  # of the answer

    def is_right(self, answer_transcript: str) -> bool:
        """Whether a transcript of the answer has every needed phrase, after normalisation."""
        return all(contains_in_order(answer_transcript, phrase) for phrase in self.needed)


def answered_in(request: Request) -> Language:
    """The language of the answer to a single question."""
    return LANGUAGE_ASKED.get(REPEATED.get(request.intent, request.intent), request.language)


def needed_phrases(request: Request) -> tuple[str, ...]:
    """What the answer to a request must contain, nothing having been said before.

    Raises KeyError for a request that then means nothing.
    """
    language = answered_in(request)
    say, closed = SENTENCES[language], ("closed",) if language == "en" else ("休息",)
    if request.intent == "number":
        return (say.number(request.number),)
    if request.intent in ("book", "change", "book_day", "hours_day") and request.day == "Sunday":
        return closed
    if request.intent in ("book", "change"):
        return say.day(request.day), say.time(request.time)
    if request.intent == "book_day":
        return ("time" if language == "en" else "几点", say.day(request.day))
    if request.intent == "hours_day":
        return _NEEDED[language]["hours"][1 if request.day == "Saturday" else 0 :][:1]
    return _NEEDED[language][REPEATED.get(request.intent, request.intent)]


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
    return text, Request.of(intent, slots)


def mandarin_by_hand(intent: str, rng: Random) -> tuple[str, Request]:
    """The same in Mandarin."""
    text = rng.choice(UNSEEN_ZH[intent])
    slots: dict[str, str] = {"language": "zh"}
    if "{number}" in text:
        slots["number"] = random_number(rng, "test")
        text = text.replace("{number}", mandarin_requests.number_as_said(slots["number"], rng))
    if "{day}" in text:
        slots["day"] = rng.choice((*DAYS, "Sunday") if intent == "hours_day" else DAYS)
        text = text.replace("{day}", mandarin_requests.day_as_said(slots["day"], rng))
    if "{time}" in text:
        slots["time"] = rng.choice(TIMES)
        text = text.replace("{time}", mandarin_requests.time_as_said(slots["time"], rng))
    return text, Request.of(intent, slots)


def from_patterns(intent: str, rng: Random) -> tuple[str, Request]:
    return make_request(intent, "test", rng)


def mandarin_from_patterns(intent: str, rng: Random) -> tuple[str, Request]:
    return mandarin_requests.make_request(intent, "test", rng)


def make_question(intent: str, make: Callable[[str, Random], tuple[str, Request]], rng: Random) -> Question:
    text, request = make(intent, rng)
    return Question(text, ROWS[intent], intent, needed_phrases(request), answered_in(request))


def _is_by_hand(place: int, every: int) -> bool:
    return every > 0 and place % every == every - 1


def test_questions(n: int, seed: int, by_hand_every: int = 2, language: Language = "en") -> list[Question]:  # noqa: PT028 - not a test
    """`n` questions over the domain's rows: held-out sentences of the patterns, every second one written by hand.

    With `by_hand_every` 0 none is: then all are like the test split that training is measured on.
    """
    rng = Random(f"questions {seed}")
    cycle = [intent for intent, share in _SHARES.items() for _ in range(share)]
    rng.shuffle(cycle)
    intents = [cycle[i % len(cycle)] for i in range(n)]
    unseen, written, made = (
        (UNSEEN, by_hand, from_patterns) if language == "en" else (UNSEEN_ZH, mandarin_by_hand, mandarin_from_patterns)
    )
    return [
        make_question(intent, written if _is_by_hand(i, by_hand_every) and unseen.get(intent) else made, rng)
        for i, intent in enumerate(intents)
    ]


test_questions.__test__ = False  # type: ignore[attr-defined]  # its name is not a test's


def speaker_of(language: Language, rng: Random, strangers: bool) -> voices.Speaker:
    """Who asks: a training voice, in Mandarin half the time another; of `strangers` one that no training has."""
    if strangers:
        unseen = kokoro.ENGLISH_UNSEEN if language == "en" else kokoro.MANDARIN_UNSEEN
        return voices.Speaker("kokoro", rng.choice(unseen), 1.0, rng.uniform(0.9, 1.15))
    return voices.random_speaker(rng) if language == "en" else voices.random_mandarin_speaker(rng, "test")


def render(question: Question, voice_seed: int, strangers: bool = False) -> Waveform:
    """The question at 16 kHz, 0.2 s of silence around it."""
    language = language_of(question.text)
    speaker = speaker_of(language, Random(voice_seed), strangers)
    text = corpus.written(question.text) if language == "en" else f"{question.text}。"
    rest = np.zeros(SPEECH_RATE // 5, np.float32)
    return np.concatenate([rest, voices.say(text, speaker, SPEECH_RATE), rest])


def write_questions(folder: Path, n: int, seed: int, language: Language = "en", strangers: bool = False) -> None:
    """`q000.wav` and so on (16 kHz, 16 bits, mono), and `questions.json` that says what is asked and needed."""
    import json

    folder.mkdir(parents=True, exist_ok=True)
    questions = test_questions(n, seed, language=language)
    entries = []
    for i, question in enumerate(questions):
        name = f"q{i:03d}.wav"
        soundfile.write(folder / name, render(question, seed * 10_000 + i, strangers), SPEECH_RATE, subtype="PCM_16")
        entries.append({"file": name, **asdict(question)})
    (folder / "questions.json").write_text(json.dumps(entries, indent=1, ensure_ascii=False) + "\n")


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
