"""What a receptionist can say, apart from how a language says it; and how English says it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

Style = Literal["", "slow", "fast", "happy", "sad", "calm"]  # how an answer is spoken
STYLES: tuple[Style, ...] = ("slow", "fast", "happy", "sad", "calm")

WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday")
DAYS = (*WEEKDAYS, "Saturday")
TIMES = tuple(
    hour + half
    for hour in ("nine", "ten", "eleven", "twelve", "one", "two", "three", "four", "five")
    for half in ("", " thirty")
)


@dataclass(frozen=True)
class Answer:
    """A sentence by its name, and what it is filled with, in English words as in a request."""

    name: str
    number: str = ""
    day: str = ""
    time: str = ""


def as_it_is(words: str) -> str:
    return words


@dataclass(frozen=True)
class Sentences:
    """One language's sentences that state no fact of a persona, and how it says numbers, days and times."""

    texts: Mapping[str, str]  # by name; what is filled in stands in braces
    announcements: tuple[str, ...]
    number: Callable[[str], str] = as_it_is
    day: Callable[[str], str] = as_it_is
    time: Callable[[str], str] = as_it_is

    def say(self, answer: Answer) -> str:
        """Raises KeyError for a sentence that there is not."""
        filled = {
            name: say(value)
            for name, say, value in (
                ("number", self.number, answer.number),
                ("day", self.day, answer.day),
                ("time", self.time, answer.time),
            )
            if value
        }
        return self.texts[answer.name].format(**filled)

    @property
    def fixed(self) -> list[str]:
        """Sentences with nothing to fill in."""
        return [text for text in self.texts.values() if "{" not in text]


ENGLISH = Sentences(
    {
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
        "language": "I am sorry, I only speak English and Chinese.",
        "other": "I cannot help with that, but I can help with parcels, prices, opening hours and pick-ups.",
        "noise": "I am sorry, I did not catch that.",
        "noted": "Thank you, it is noted. A text message will follow.",
        "again": "I am sorry. Please tell me the number again.",
        "no_number": "You have not told me a number yet.",
        "what_else": "All right. What can I do for you?",
        "anything_else": "All right. Is there anything else?",
        "closed": "We are closed on Sunday.",
        "another_day": "We are closed on Sunday. Please choose another day.",
        "day_too": "On which day?",
        "happy": "Of course, I will sound happy.",
        "sad": "Of course, I will sound sad.",
        "calm": "Of course, I will sound calm.",
        "normal": "Of course, I will speak normally.",
        "chinese": "Of course, I will speak Chinese.",
        "english": "Of course, I will speak English.",
        "confirmation": "I have {number}. Is that right?",
        "recollection": "The number is {number}.",
        "booked": "I have booked your pick-up for {day} at {time}.",
        "moved": "Your pick-up is now on {day} at {time}.",
        "ask_time": "At what time on {day}?",
    },
    (
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
    ),
)
