"""The right answer to every request, given what was said before: the behaviour that the language model learns.

Facts are a persona's (facts.py); by default those of personas/default.yaml, and a test compares them. The answer
follows the caller's language turn by turn; what is remembered is common to both languages. A fact that the persona's
prompt does not have in the caller's language is stated in the other: names and addresses cannot be translated.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from training.domain.facts import DEFAULT, Facts
from training.domain.mandarin.sentences import MANDARIN
from training.domain.personas import Persona
from training.domain.sentences import ENGLISH, Answer, Sentences, Style
from training.languages import Language

SYSTEM = (
    "User will provide you with a speech instruction. Do it step by step. First, think about the instruction and "
    "respond in a interleaved manner, with 13 text token followed by 26 audio tokens. "
)
SENTENCES: dict[Language, Sentences] = {"en": ENGLISH, "zh": MANDARIN}

# What a persona's prompt ends with where it is to be spoken in a style from the start.
STYLE_TAGS: dict[Language, dict[Style, str]] = {
    "en": {
        "slow": "Speak slowly.", "fast": "Speak fast.", "happy": "Speak happily.", "sad": "Speak sadly.",
        "calm": "Speak calmly.",
    },
    "zh": {
        "slow": "请慢慢说。", "fast": "请快点说。", "happy": "请开心地说。", "sad": "请难过地说。",
        "calm": "请平静地说。",
    },
}  # fmt: skip
# Requests that change how the agent speaks from then on, and in which language it answers at once.
STYLE_ASKED: dict[str, Style] = {
    "slower": "slow", "faster": "fast", "happy": "happy", "sad": "sad", "calm": "calm", "normal": "",
}  # fmt: skip
LANGUAGE_ASKED: dict[str, Language] = {"chinese": "zh", "english": "en"}
# Requests for the last answer in a style or language; when there is none, they mean the style or language alone.
REPEATED = {
    "repeat_slow": "slower", "repeat_fast": "faster", "repeat_happy": "happy", "repeat_sad": "sad",
    "repeat_calm": "calm", "repeat_chinese": "chinese", "repeat_english": "english",
}  # fmt: skip


def styled(prompt: str, style: Style, language: Language) -> str:
    """A prompt with the tag of a style."""
    return f"{prompt} {STYLE_TAGS[language][style]}" if style else prompt


def say(answer: Answer, persona: Persona, language: Language) -> str:
    """An answer in words. Raises KeyError for a sentence that there is not."""
    facts = persona.speaking(language)
    if answer.name == "hours_day":
        return facts.hours_on(answer.day)
    stated = facts.stated
    return stated[answer.name] if answer.name in stated else SENTENCES[language].say(answer)


def all_fixed(facts: Facts = DEFAULT) -> list[str]:
    """In the language of the facts, every answer and announcement that has nothing to fill in."""
    sentences = SENTENCES[facts.language]
    return list(dict.fromkeys([*sentences.fixed, *facts.stated.values(), *sentences.announcements]))


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
    last: Answer | None = None
    asked: str | None = None  # "number" (is it right?), "day" or "time" (of a pick-up), "else" (anything else?)
    day: str = ""
    changing: bool = False
    style: Style = ""
    language: Language = "en"  # of the last answer


class Receptionist:
    """Answers a call's requests one after the other, from the facts of a persona."""

    def __init__(self, greeted: bool = True, persona: Persona = DEFAULT, style: Style = "") -> None:
        self.memory = Memory(last=Answer("greeting") if greeted else None, style=style, language=persona.language)
        self.persona = persona

    def answer(self, request: Request) -> str:
        """The answer. Raises KeyError for an unknown intent."""
        memory = self.memory
        meant = REPEATED.get(request.intent, request.intent)
        memory.style = STYLE_ASKED.get(meant, memory.style)
        if request.intent != "noise":
            memory.language = LANGUAGE_ASKED.get(meant, request.language)
        if request.intent == "repeat":
            return self._say(memory.last or Answer("noise"))
        if request.intent in REPEATED and memory.last:
            return self._say(memory.last)
        asked, memory.asked = memory.asked, None
        memory.last = self._answer(request, meant, asked)
        return self._say(memory.last)

    def _say(self, answer: Answer) -> str:
        return say(answer, self.persona, self.memory.language)

    def _answer(self, request: Request, meant: str, asked: str | None) -> Answer:
        memory = self.memory
        match meant:
            case "number":
                memory.number, memory.asked = request.number, "number"
                return Answer("confirmation", number=request.number)
            case "recall":
                return Answer("recollection", number=memory.number) if memory.number else Answer("no_number")
            case "yes":
                return Answer("noted" if asked == "number" else "what_else")
            case "no":
                if asked == "number":
                    memory.number = None
                    return Answer("again")
                return Answer("bye" if asked == "else" else "anything_else")
            case "hours_day":
                return Answer("closed") if request.day == "Sunday" else Answer("hours_day", day=request.day)
            case "book" | "change" | "book_day" | "book_time":
                return self._appointment(request, asked)
            case "book_open" | "change_open":
                memory.asked, memory.changing = "day", request.intent == "change_open"
            case "thanks":
                memory.asked = "else"
        return Answer(meant)

    def _appointment(self, request: Request, asked: str | None) -> Answer:
        memory = self.memory
        day = request.day or (memory.day if asked == "time" else "")
        memory.changing = request.intent == "change" or (asked in ("day", "time") and memory.changing)
        if day == "Sunday":
            memory.asked = "day"
            return Answer("another_day")
        if not day:
            memory.asked = "day"
            return Answer("day_too")
        if not request.time:
            memory.asked, memory.day = "time", day
            return Answer("ask_time", day=day)
        return Answer("moved" if memory.changing else "booked", day=day, time=request.time)
