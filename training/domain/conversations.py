"""Calls as a receptionist has them: several requests, some of which only make sense after what was said before."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random

from training.domain.facts import DEFAULT
from training.domain.personas import Persona
from training.domain.replies import LANGUAGE_ASKED, REPEATED, Memory, Receptionist, Request
from training.domain.sentences import Style
from training.languages import Language


@dataclass(frozen=True)
class Turn:
    """A request, by a key of whoever samples it (a recording, say), and the right answer; or an announcement."""

    reply: str
    request: Request | None = None
    source: int = -1
    style: Style = ""


_DEFAULT = {
    "number": 22.0, "yes": 1.2, "no": 1.2, "recall": 0.7, "repeat": 4.0, "book": 8.0, "change": 4.0, "book_day": 3.0,
    "book_time": 0.4, "book_open": 3.0, "change_open": 2.0, "hours_day": 8.0, "hours": 4.0, "address": 4.0,
    "greet": 3.0, "parcel": 3.5, "cancel": 3.5, "transfer": 4.0, "identity": 3.5, "other": 7.0, "noise": 2.5,
    "price_small": 2.5,
    "price_medium": 2.5, "price_large": 2.5, "price_all": 3.0, "bye": 3.0, "thanks": 3.0, "how": 2.5, "style": 1.5,
    "language": 1.5, "slower": 1.5, "faster": 1.5, "hours_weekend": 1.0,
    "happy": 1.0, "sad": 1.0, "calm": 1.0, "normal": 0.4, "chinese": 1.2, "english": 0.8, "repeat_slow": 0.8,
    "repeat_fast": 0.8, "repeat_happy": 0.8, "repeat_sad": 0.8, "repeat_calm": 0.8, "repeat_chinese": 1.0,
    "repeat_english": 0.7,
}  # fmt: skip
_LENGTHS = {1: 42, 2: 20, 3: 17, 4: 11, 5: 6, 6: 4}
_SHORT_LENGTHS = {1: 60, 2: 22, 3: 13, 4: 5}
_GREETED, _GREETED_WHEN_SHORT = 0.6, 0.35
_AFTER_QUESTION = {
    "number": {"yes": 48.0, "no": 17.0, "number": 8.0},
    "day": {"book": 45.0, "book_day": 18.0},
    "time": {"book_time": 70.0},
    "else": {"no": 30.0, "yes": 22.0, "bye": 15.0},
}
_RECALL_LATER = 24.0
_NORMAL_AGAIN = 2.5  # once a style was asked for
# These requests lean on the turn before: callers make them after an answer.
_NEEDS_ANSWER = ("repeat", *REPEATED)
INTENTS = tuple(_DEFAULT)
ENGLISH_ONLY: dict[Language, Collection[str]] = {"en": INTENTS}
# A caller changes the language now and then; does mostly speak the one asked for; seldom one that the prompt has not.
_SWITCHES, _SPEAKS_WHAT_WAS_ASKED, _FOREIGN = 0.12, 0.6, 0.15

Draw = Callable[[str, Language, Random], tuple[int, Request]]


def next_intent(memory: Memory, rng: Random, known: Collection[str] = INTENTS) -> str:
    """What a caller may want next of the known intents, given what was asked and said."""
    weights = {intent: weight for intent, weight in _DEFAULT.items() if intent in known}
    if memory.asked:
        for intent, weight in _AFTER_QUESTION[memory.asked].items():
            weights[intent] += weight * 1.2
    if memory.number:
        weights["recall"] += _RECALL_LATER
        weights["number"] /= 3.0
    if memory.style and "normal" in weights:
        weights["normal"] += _NORMAL_AGAIN
    if not memory.last:
        for intent in _NEEDS_ANSWER:
            if intent in weights:
                weights[intent] = 0.0
    return rng.choices(list(weights), list(weights.values()))[0]


class _Tongue:
    """Which language a caller speaks, turn by turn; with only one to choose from, no randomness is drawn."""

    def __init__(self, known: Collection[Language], spoken_to: Collection[Language], rng: Random) -> None:
        self._known = list(known)
        self._rng = rng
        weights = [1.0 if language in spoken_to else _FOREIGN for language in self._known]
        self._now = rng.choices(self._known, weights)[0] if len(self._known) > 1 else self._known[0]

    def next(self, before: Request | None) -> Language:
        if len(self._known) > 1:
            asked = LANGUAGE_ASKED.get(REPEATED.get(before.intent, before.intent)) if before else None
            if asked in self._known and self._rng.random() < _SPEAKS_WHAT_WAS_ASKED:
                self._now = asked
            elif self._rng.random() < _SWITCHES:
                self._now = self._rng.choice(self._known)
        return self._now


def sample_call(
    draw: Draw,
    rng: Random,
    can_answer: Callable[[str], bool],
    short: bool = False,
    script: Sequence[str | None] = (),
    persona: Persona = DEFAULT,
    known: Mapping[Language, Collection[str]] = ENGLISH_ONLY,
    style: Style = "",
) -> list[Turn]:
    """A call of one to six requests, six in ten greeted first; or a shorter one, more seldom greeted.

    Args:
        draw: picks a request of an intent in a language and says where it is from.
        rng: the call's randomness.
        can_answer: whether an answer may be used; a request whose answer may not is drawn again.
        short: one to four requests, mostly one.
        script: intents of all requests, for a call of this course; none where any may come.
        persona: who answers.
        known: the languages that callers can speak, and of which intents there are requests in each.
        style: that the agent begins in.
    """
    greeted = rng.random() < (_GREETED_WHEN_SHORT if short else _GREETED)
    lengths = _SHORT_LENGTHS if short else _LENGTHS
    desk = Receptionist(greeted, persona, style)
    call = [Turn(persona.greeting, style=style)] if greeted else []
    count = len(script) or rng.choices(list(lengths), list(lengths.values()))[0]
    tongue = _Tongue(known, persona.languages, rng)
    language = tongue.next(None)
    done = 0
    while done < count:
        wanted = script[done] if script else None
        source, request = draw(wanted or next_intent(desk.memory, rng, known[language]), language, rng)
        before = replace(desk.memory)
        reply = desk.answer(request)
        if not can_answer(reply):
            desk.memory = before
            continue
        call.append(Turn(reply, request, source, desk.memory.style))
        language = tongue.next(request)
        done += 1
    return call
