"""The right answer to every request, given what was said before: the behaviour that the language model learns.

Facts are a persona's (facts.py); by default those of personas/default.yaml, and a test compares them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from training.domain.facts import DEFAULT, Facts

Language = Literal["en", "zh"]
Pace = Literal["", "slow", "fast"]  # how an answer is spoken

SYSTEM = (
    "User will provide you with a speech instruction. Do it step by step. First, think about the instruction and "
    "respond in a interleaved manner, with 13 text token followed by 26 audio tokens. "
)
PERSONA = DEFAULT.prompt()
GREETING = DEFAULT.greeting

WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday")
DAYS = (*WEEKDAYS, "Saturday")
TIMES = tuple(
    hour + half
    for hour in ("nine", "ten", "eleven", "twelve", "one", "two", "three", "four", "five")
    for half in ("", " thirty")
)

_FIXED = {
    "greet": "Hello. How can I help you?",
    "parcel": "Please tell me your parcel number.",
    "book_open": "On which day, and at what time?",
    "change_open": "To which day, and what time?",
    "cancel": "Your pick-up is cancelled.",
    "transfer": "I will connect you to a colleague. Please hold the line.",
    "slower": "Of course, I will speak slower.",
    "faster": "Of course, I will speak faster.",
    "how": "I am fine, thank you. How can I help you?",
    "thanks": "You are welcome. Is there anything else?",
    "bye": "Thank you for calling. Goodbye.",
    "style": "I am sorry, I cannot change my voice.",
    "language": "I am sorry, I only speak English.",
    "other": "I cannot help with that, but I can help with parcels, prices, opening hours and pick-ups.",
    "noise": "I am sorry, I did not catch that.",
}
NOTED = "Thank you, it is noted. A text message will follow."
AGAIN = "I am sorry. Please tell me the number again."
NO_NUMBER = "You have not told me a number yet."
WHAT_ELSE = "All right. What can I do for you?"
ANYTHING_ELSE = "All right. Is there anything else?"
CLOSED = "We are closed on Sunday."
ANOTHER_DAY = "We are closed on Sunday. Please choose another day."
DAY_TOO = "On which day?"

ANNOUNCEMENTS = (
    GREETING,
    "Are you still there?",
    "Goodbye.",
    "Please hold the line.",
    "One moment, please.",
    "I will connect you now.",
    "I am sorry, something went wrong.",
    "I am sorry, please try again later.",
    "I am sorry, all lines are busy. Please call again later.",
    "Thank you for waiting.",
    "Thank you for calling. Goodbye.",
    "This call is recorded.",
    "This call will end in one minute.",
    "I did not hear anything. Goodbye.",
    "Welcome back.",
    "Your call is being transferred.",
    "Nobody is available right now.",
    "Please wait a moment.",
    "How can I help you?",
    "Sorry, could you say that again?",
    "I'm sorry, something went wrong. Please say that again.",
    "Please say that again.",
    "I am sorry, I have to end the call now. Goodbye.",
    "You are now connected to a colleague.",
    "Hello, how can I help you?",
)


def fixed(facts: Facts = DEFAULT) -> dict[str, str]:
    """By intent, every answer that has no slots but the persona's facts."""
    prices = {f"price_{size}": facts.price_of(size) for size in ("small", "medium", "large")}
    stated = {
        "hours": facts.hours,
        "hours_weekend": facts.weekend,
        "address": facts.where,
        "price_all": facts.prices,
        "identity": facts.identity,
    }
    return {**_FIXED, **stated, **prices}


def all_fixed(facts: Facts = DEFAULT) -> list[str]:
    """Every answer without slots."""
    rest = (NOTED, AGAIN, NO_NUMBER, WHAT_ELSE, ANYTHING_ELSE, CLOSED, ANOTHER_DAY, DAY_TOO)
    return list(dict.fromkeys([*fixed(facts).values(), *rest, *ANNOUNCEMENTS]))


def confirmation(number: str) -> str:
    return f"I have {number}. Is that right?"


def recollection(number: str) -> str:
    return f"The number is {number}."


def booked(day: str, time: str) -> str:
    return f"I have booked your pick-up for {day} at {time}."


def moved(day: str, time: str) -> str:
    return f"Your pick-up is now on {day} at {time}."


def ask_time(day: str) -> str:
    return f"At what time on {day}?"


def hours_on(day: str, facts: Facts = DEFAULT) -> str:
    return CLOSED if day == "Sunday" else facts.hours_on(day)


@dataclass(frozen=True)
class Request:
    """What a caller wants. Slots in English: number ("four seven one nine"), day ("Monday"), time ("ten thirty")."""

    intent: str
    number: str = ""
    day: str = ""
    time: str = ""
    language: Language = "en"  # that the caller speaks

    @classmethod
    def of(cls, intent: str, slots: Mapping[str, str]) -> "Request":
        """From slots as `slots` gives them."""
        language: Language = "zh" if slots.get("language") == "zh" else "en"
        return cls(intent, slots.get("number", ""), slots.get("day", ""), slots.get("time", ""), language)

    @property
    def slots(self) -> dict[str, str]:
        """What is filled, English being understood."""
        slots = {"number": self.number, "day": self.day, "time": self.time}
        language = {} if self.language == "en" else {"language": self.language}
        return {name: value for name, value in slots.items() if value} | language


@dataclass
class Memory:
    """What a receptionist keeps in mind during a call."""

    number: str | None = None
    last: str | None = None
    asked: str | None = None  # "number" (is it right?), "day" or "time" (of a pick-up), "else" (anything else?)
    day: str = ""
    changing: bool = False
    pace: Pace = ""


class Receptionist:
    """Answers a call's requests one after the other, from the facts of a persona."""

    def __init__(self, greeting: str | None = GREETING, facts: Facts = DEFAULT) -> None:
        self.memory = Memory(last=greeting)
        self.facts = facts
        self._fixed = fixed(facts)

    def answer(self, request: Request) -> str:
        """The answer. Raises KeyError for an unknown intent."""
        memory = self.memory
        if request.intent == "repeat":
            return memory.last or self._fixed["noise"]
        asked, memory.asked = memory.asked, None
        memory.last = self._answer(request, asked)
        return memory.last

    def _answer(self, request: Request, asked: str | None) -> str:
        memory = self.memory
        match request.intent:
            case "number":
                memory.number, memory.asked = request.number, "number"
                return confirmation(request.number)
            case "recall":
                return recollection(memory.number) if memory.number else NO_NUMBER
            case "yes":
                return NOTED if asked == "number" else WHAT_ELSE
            case "no":
                if asked == "number":
                    memory.number = None
                    return AGAIN
                return self._fixed["bye"] if asked == "else" else ANYTHING_ELSE
            case "hours_day":
                return hours_on(request.day, self.facts)
            case "book" | "change" | "book_day" | "book_time":
                return self._appointment(request, asked)
            case "book_open" | "change_open":
                memory.asked, memory.changing = "day", request.intent == "change_open"
            case "thanks":
                memory.asked = "else"
            case "slower" | "faster":
                memory.pace = "slow" if request.intent == "slower" else "fast"
        return self._fixed[request.intent]

    def _appointment(self, request: Request, asked: str | None) -> str:
        memory = self.memory
        day = request.day or (memory.day if asked == "time" else "")
        memory.changing = request.intent == "change" or (asked in ("day", "time") and memory.changing)
        if day == "Sunday":
            memory.asked = "day"
            return ANOTHER_DAY
        if not day:
            memory.asked = "day"
            return DAY_TOO
        if not request.time:
            memory.asked, memory.day = "time", day
            return ask_time(day)
        return moved(day, request.time) if memory.changing else booked(day, request.time)
