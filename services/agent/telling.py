"""While an answer is heard: what was heard of it is noted, in case this agent dies, and told to who reads along."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from services.agent.conversation import Entry, Role
from services.agent.events import Event, Spoken
from services.agent.floor import AnswerInProgress

PROGRESS_S = 1.0  # how often it is noted what was heard of an answer
SPOKEN_S = 0.25  # how often watchers are told


@dataclass(frozen=True)
class Telling:
    """Of one call's answers.

    Attributes:
        progress: takes what was heard so far of an answer under way.
        publish: takes events for watchers.
        watched: somebody reads along.
        delay_s: how long after its time a packet is heard, seconds.
    """

    progress: Callable[[Entry], None]
    publish: Callable[[Event], None]
    watched: Callable[[], bool]
    delay_s: Callable[[], float]

    async def note(self, answer: AnswerInProgress, under_way: Callable[[], bool]) -> None:
        """Notes what was heard of an answer, for ever."""
        while True:
            await asyncio.sleep(PROGRESS_S)
            if under_way() and answer.player.audible:
                heard = answer.player.heard(self.delay_s()).tokens
                kept, text = answer.speaker.answer.cut(heard), answer.speaker.answer.text_heard(heard)
                end = kept.start + len(kept.ids)
                self.progress(Entry(Role.ASSISTANT, tuple(kept.ids), end, text, True, answer.number))

    async def tell(self, answer: AnswerInProgress, under_way: Callable[[], bool]) -> None:
        """Tells those who read along, for ever. That it is over is told by whoever ends it."""
        told = ""
        while True:
            await asyncio.sleep(SPOKEN_S if self.watched() else PROGRESS_S)
            if self.watched() and under_way() and answer.player.audible:
                text = answer.speaker.answer.text_heard(answer.player.heard(self.delay_s()).tokens)
                if text != told:
                    self.publish(spoken(answer, text))
                    told = text


def spoken(answer: AnswerInProgress, text: str, done: bool = False, interrupted: bool = False) -> Spoken:
    """What was heard of an answer, as an event."""
    return Spoken(answer.number, answer.count, text.strip(), done, interrupted)
