"""Which actions an answer of the bot sets off, and when: a pure state machine fed with the answer's text and fate.

An answer that nobody hears sets nothing off: it may be made before the caller's turn is surely over, and thrown away.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

from services.agent.actions.config import Action, ActionKind, When
from services.agent.actions.matcher import Match, TextMatcher

LEAVING = (ActionKind.TRANSFER.value, ActionKind.HANG_UP.value)  # after one of these there is no call to act on


class StepKind(Enum):
    """What is to be done about an action."""

    ACT = auto()
    CANCEL = auto()  # the caller spoke up before the answer was heard to its end


@dataclass(frozen=True)
class Step:
    """An action's moment has come.

    Attributes:
        text: the bot's sentence that set it off.
    """

    kind: StepKind
    action: Action
    text: str


class AnswerPlan:
    """Follows one answer after the other. Each action is set off once by an answer at most, and of those that end the
    call only the first.
    """

    def __init__(self, actions: Sequence[Action]) -> None:
        self._actions = [action for action in actions if action.phrases or action.pattern]
        self._matcher: TextMatcher | None = None
        self._audible = False
        self._leaving = False
        self._due: list[Step] = []  # at the first sound
        self._pending: list[Step] = []  # when all is heard

    def begin(self, announcement: bool) -> None:
        """An answer begins; announcements (greeting, apology, `say`) are not the bot's own and set nothing off."""
        self._forget()
        if self._actions and not announcement:
            self._matcher = TextMatcher([action.wanted for action in self._actions])

    def text(self, piece: str) -> list[Step]:
        """More of its text."""
        return self._found(self._matcher.feed(piece)) if self._matcher is not None else []

    def text_complete(self) -> list[Step]:
        """All of its text has been there."""
        return self._found(self._matcher.finish()) if self._matcher is not None else []

    def audible(self) -> list[Step]:
        """Its first packet has gone out."""
        self._audible = True
        due, self._due = self._due, []
        return due

    def over(self, heard: bool) -> list[Step]:
        """It is over: heard to its end, or stopped (of which nothing may have been heard)."""
        steps = [*self._due, *self._pending]
        if not heard:
            steps = [Step(StepKind.CANCEL, step.action, step.text) for step in self._pending if self._audible]
        self._forget()
        return steps

    def _found(self, matches: list[Match]) -> list[Step]:
        now = []
        for match in matches:
            action = self._actions[match.index]
            if action.kind in LEAVING:
                if self._leaving:
                    continue
                self._leaving = True
            step = Step(StepKind.ACT, action, match.sentence)
            if action.when is When.HEARD:
                self._pending.append(step)
            elif self._audible:
                now.append(step)
            else:
                self._due.append(step)
        return now

    def _forget(self) -> None:
        self._matcher = None
        self._audible = self._leaving = False
        self._due, self._pending = [], []
