"""Single requests in words: a wording with its slots filled, fillers and hesitations around it."""

from collections.abc import Sequence
from random import Random

from training.domain.numbers import as_said, random_number
from training.domain.replies import Request
from training.domain.sentences import DAYS, TIMES
from training.domain.wordings import PATTERNS, random_wording
from training.splits import Split

_BEFORE = (
    "hello", "hi", "um", "uh", "well", "so", "okay", "please", "good morning", "good afternoon", "excuse me",
    "hi there", "hello i have a question", "hey", "right", "actually", "oh", "yes", "yes hello", "hello mira", "sorry",
    "all right", "good evening", "hi mira", "one more question", "another question", "and", "then", "now",
)  # fmt: skip
_AFTER = ("please", "thanks", "thank you", "if you can", "if possible", "today please")
_NO_FILLERS = {"greet", "yes", "no", "bye", "repeat", "thanks", "how", "noise", "slower", "faster"}
_HESITATIONS = ("um", "uh", "er", "well", "you know", "hmm")

INTENTS = tuple(PATTERNS)


def spoken_time(time: str, rng: Random) -> str:
    """ "ten thirty" as one says it: also "half past ten", "ten o'clock", "ten in the morning"."""
    hour, _, half = time.partition(" ")
    if half:
        text = f"half past {hour}" if rng.random() < 0.25 else time
    else:
        text = f"{hour} o'clock" if rng.random() < 0.3 else hour
    if rng.random() < 0.12:
        text += " in the morning" if hour in ("nine", "ten", "eleven") else " in the afternoon"
    return text


def hesitate(text: str, rng: Random) -> str:
    words = text.split()
    if len(words) < 3:
        return text
    at = rng.randrange(1, len(words))
    return " ".join([*words[:at], rng.choice(_HESITATIONS), *words[at:]])


def make_request(intent: str, split: Split, rng: Random, number: str | None = None) -> tuple[str, Request]:
    """A caller's sentence of this intent, and what it means. Everything in it is of the given split."""
    text = random_wording(intent, split, rng)
    slots: dict[str, str] = {}
    if "{number}" in text:
        slots["number"] = number or random_number(rng, split)
        text = text.replace("{number}", as_said(slots["number"], rng))
    if "{day}" in text:
        sunday = rng.random() < (0.16 if intent == "hours_day" else 0.04)
        slots["day"] = "Sunday" if sunday else rng.choice(DAYS)
        text = text.replace("{day}", slots["day"])
    if "{time}" in text:
        slots["time"] = rng.choice(TIMES)
        text = text.replace("{time}", spoken_time(slots["time"], rng))
    if intent not in _NO_FILLERS:
        if rng.random() < 0.35:
            text = f"{rng.choice(_BEFORE)} {text}"
        if rng.random() < 0.12 and not text.endswith(("please", "thanks", "you")):
            text = f"{text} {rng.choice(_AFTER)}"
        if rng.random() < 0.07:
            text = hesitate(text, rng)
    return text, Request.of(intent, slots)


def bare_number(split: Split, rng: Random, number: str | None = None) -> tuple[str, Request]:
    """Just the digits."""
    number = number or random_number(rng, split)
    return as_said(number, rng), Request("number", number=number)


def draw(weights: dict[str, float], rng: Random, intents: Sequence[str] = INTENTS) -> str:
    return rng.choices(intents, [weights.get(intent, 1.0) for intent in intents])[0]
