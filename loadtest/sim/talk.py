"""What is said in a simulated turn: drawn from what was measured, or from a profile's lengths."""

import math
from dataclasses import dataclass
from random import Random

from loadtest.sim.profile import Spread, Talk
from loadtest.sim.report import Moment, Steps
from services.agent.turns import EventKind, TurnMachine, TurnSettings


@dataclass(frozen=True)
class Turn:
    """One turn.

    Attributes:
        seconds: from the caller's first to their last sound.
        moments: what turn-taking reports, seconds after the last sound.
        text, speech: tokens of the answer.
    """

    seconds: float
    moments: tuple[Moment, ...]
    text: int
    speech: int


def draw(talk: Talk, steps: Steps, chance: Random) -> Turn:
    """A turn."""
    if isinstance(talk.question, Spread):
        assert talk.answer is not None
        speech = max(1, round(_length(talk.answer, chance) * steps.decoder.token_rate))
        text = -(-speech * steps.talk.text_block // steps.talk.speech_block)
        moments = moments_after(TurnSettings(), chance.random() < talk.complete)
        return Turn(_length(talk.question, chance), moments, text, speech)
    question = chance.choice(steps.talk.questions)
    text, speech = chance.choice(question.answers)
    return Turn(question.seconds, tuple(question.moments), text, speech)


def moments_after(settings: TurnSettings, complete: bool) -> tuple[Moment, ...]:
    """What turn-taking reports after speech without a pause, by its own state machine.

    Args:
        complete: whether the end-of-turn model sees the end at once, or at its second look.
    """
    machine = TurnMachine(settings)
    window = settings.window_s
    for number in range(math.ceil(1.0 / window)):
        machine.window((number + 1) * window - 1.0, 1.0)
    found: list[Moment] = []
    asked, now = 0, 0.0
    while machine.is_open:
        now += window
        for event in machine.window(now, 0.0):
            if event.kind is EventKind.PAUSED:
                found.append(Moment(at_s=now, kind="paused"))
            elif event.kind is EventKind.ASK:
                asked += 1
                found.append(Moment(at_s=now, kind="ask", complete=complete or asked > 1))
                if found[-1].complete:
                    return tuple(found)
    return tuple(found)


def _length(spread: Spread, chance: Random) -> float:
    return spread.median_s * math.exp(chance.gauss(0.0, spread.sigma))
