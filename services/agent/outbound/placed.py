"""What is different about a call that we placed: it rings at the far end, and who answers it may be a machine."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

from services.agent.actions.runner import AFTER_SPEECH_S
from services.agent.events import AnswerOver, Event
from services.agent.legs.base import Leg, LegError
from services.agent.outbound.answering_machine import Callee, CalleeSettings, Verdict
from services.agent.outbound.callee import CalleeProcessor
from services.agent.outbound.outcome import DialOutcome, NotAnsweredError, not_answered
from services.agent.player import Media
from services.agent.speech import Speech
from services.agent.voice_activity import VoiceActivity

LONGEST_RING_S = 180.0
LONGEST_WAIT_S = 10.0
LONGEST_TEXT = 500  # characters


class OnMachine(Enum):
    """What to do when an answering machine has taken the call."""

    IGNORE = "ignore"  # talk to it as to a person
    HANG_UP = "hang up"
    LEAVE_TEXT = "leave a text"  # after its beep, then hang up


@dataclass(frozen=True)
class DialOptions:
    """How a call is placed.

    Attributes:
        ring_timeout_s: how long it may ring, seconds.
        greet_after_s: the bot speaks first when the callee has been silent for so long after the answer, seconds.
        text: to leave with a machine.

    Raises:
        ValueError: a value is out of range, or a text is missing.
    """

    ring_timeout_s: float = 45.0
    greet_after_s: float = 2.0
    on_machine: OnMachine = OnMachine.IGNORE
    text: str = ""

    def __post_init__(self) -> None:
        if not 1 <= self.ring_timeout_s <= LONGEST_RING_S:
            raise ValueError(f"the ring timeout may be 1 to {LONGEST_RING_S:g} s (given: {self.ring_timeout_s:g})")
        if not 0.2 <= self.greet_after_s <= LONGEST_WAIT_S:
            raise ValueError(f"the wait may be 0.2 to {LONGEST_WAIT_S:g} s (given: {self.greet_after_s:g})")
        needs_text = self.on_machine is OnMachine.LEAVE_TEXT
        if needs_text != bool(self.text) or len(self.text) > LONGEST_TEXT:
            raise ValueError(f"leaving a text needs one of 1 to {LONGEST_TEXT} characters, and nothing else takes one")


class PlacedCall:
    """The beginning of one placed call. `ring`, then a pipeline that has `processor` in front of turn-taking.

    Args:
        hang_up: ends the call, for a reason.
        report: takes the outcome, which may change once from ANSWERED to ANSWERING_MACHINE.
    """

    def __init__(
        self,
        options: DialOptions,
        speech: Speech,
        hang_up: Callable[[str], None],
        report: Callable[[DialOutcome, int], None],
    ) -> None:
        self._options = options
        self._speech = speech
        self._hang_up = hang_up
        self._report = report
        self._processor: CalleeProcessor | None = None
        self._media: Media | None = None
        self._leaving = 0  # texts that a machine has not heard to their end

    async def ring(self, leg: Leg, cancelled: "asyncio.Future[str]") -> None:
        """Waits until the far end has answered and media flows.

        Raises:
            NotAnsweredError: it did not, or `cancelled` came first; the leg has ended then, and it is reported.
        """
        answering = asyncio.create_task(leg.answer())
        either: set[asyncio.Future[Any]] = {answering, cancelled}
        await asyncio.wait(either, timeout=self._options.ring_timeout_s, return_when=asyncio.FIRST_COMPLETED)
        failure: NotAnsweredError | None = None
        if not answering.done():
            failure = NotAnsweredError(DialOutcome.NO_ANSWER, "not answered")
            if cancelled.done():
                failure = NotAnsweredError(DialOutcome.CANCELLED, cancelled.result())
            await leg.hang_up(failure.reason)
        try:
            await answering
        except LegError as error:
            failure = failure or not_answered(leg.ended.result() if leg.ended.done() else str(error))
        if failure is not None:
            self._report(failure.outcome, failure.sip_status)
            raise failure
        self._report(DialOutcome.ANSWERED, 0)

    def processor(self) -> CalleeProcessor:
        """Listens to who has answered."""
        callee = Callee(CalleeSettings(greet_after_s=self._options.greet_after_s))
        self._processor = CalleeProcessor(callee, VoiceActivity(), self._heard)
        return self._processor

    def connect(self, media: Media) -> None:
        """Packets can flow; the bot waits for its turn."""
        self._media = media

    def take(self, event: Event) -> None:
        """An event of the call."""
        if not self._leaving or not isinstance(event, AnswerOver) or not event.heard:
            return
        self._leaving -= 1
        if not self._leaving:
            asyncio.get_running_loop().call_later(AFTER_SPEECH_S, self._hang_up, "a text was left with a machine")

    def _heard(self, verdict: Verdict) -> None:
        if verdict is Verdict.PERSON:
            self._converse()
        elif verdict is Verdict.MACHINE:
            self._report(DialOutcome.ANSWERING_MACHINE, 0)
            if self._options.on_machine is OnMachine.HANG_UP:
                self._hang_up("answering machine")
            elif self._options.on_machine is OnMachine.IGNORE:
                self._converse()
        elif self._options.on_machine is OnMachine.LEAVE_TEXT:
            if verdict is Verdict.RECORDING:
                self._leave_text()
            else:
                self._hang_up("answering machine without an end")

    def _converse(self) -> None:
        assert self._processor is not None
        assert self._media is not None
        self._processor.open()
        self._speech.connect(self._media)

    def _leave_text(self) -> None:
        assert self._media is not None
        self._speech.drop_opening()  # it was made for a person
        texts = [text for text in (self._speech.disclosure, self._options.text) if text]
        for text in texts:
            self._speech.say(text)
        self._leaving = len(texts)
        self._speech.connect(self._media)
