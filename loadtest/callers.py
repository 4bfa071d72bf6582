"""Simulated callers, more and more of them: each calls, asks, listens, hangs up and calls again."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random

from loadtest.phone import CallRefusedError, NoAnswerError, Recording, calling
from loadtest.sim.profile import Talk
from loadtest.sim.run import percentile
from loadtest.sip.talker import PAUSE_S
from loadtest.stack import Target

SPREAD_S, BETWEEN_S = 6.0, 0.75  # over which the callers of a level begin at most, and from one to the next
REFUSED_S = 2.0  # before someone who was refused calls again
SETTLE_S = 90.0


@dataclass
class Level:
    """What so many callers met with.

    Attributes:
        calls: at once.
        first_audio_s: of each answer, from the question's last sound to the answer's first, at the caller's ear.
        refused, unanswered: calls, and questions.
        overlapped: questions over which the bot still spoke; their answers are not counted.
    """

    calls: int
    first_audio_s: list[float] = field(default_factory=list)
    refused: int = 0
    unanswered: int = 0
    overlapped: int = 0

    @property
    def p50_s(self) -> float:
        """The median; infinite when nothing was heard."""
        return percentile(self.first_audio_s, 50)

    def at(self, percent: float) -> float:
        """A percentile; infinite when nothing was heard."""
        return percentile(self.first_audio_s, percent)


Tell = Callable[[Level, float], None]


async def ramp(
    target: Target,
    questions: Sequence[Recording],
    talk: Talk,
    levels: Sequence[tuple[int, float]],
    seed: int,
    tell: Tell = lambda level, left_s: None,
    enough: int | None = None,
) -> list[Level]:
    """One level after another.

    Args:
        enough: answers, after which a level is over before its time.
        talk: pauses, questions in a call, and the time between two calls of a caller.
        levels: calls at once, and for how many seconds questions count.
        seed: of who asks what, and when.
        tell: takes a level and what is left of its time, now and then.
    """
    found = []
    for number, (calls, seconds) in enumerate(levels):
        found.append(await _level(target, questions, talk, calls, seconds, seed + 1000 * number, tell, enough))
    return found


async def _level(
    target: Target,
    questions: Sequence[Recording],
    talk: Talk,
    calls: int,
    seconds: float,
    seed: int,
    tell: Tell,
    enough: int | None,
) -> Level:
    level = Level(calls)
    begin = time.monotonic()
    spread_s = min(SPREAD_S, BETWEEN_S * calls)
    counts_from, end = begin + spread_s, begin + spread_s + seconds

    def counts() -> bool:
        return time.monotonic() >= counts_from

    def over() -> bool:
        return time.monotonic() >= end or (enough is not None and len(level.first_audio_s) >= enough)

    callers = [
        asyncio.create_task(
            _caller(target, questions, talk, level, Random(seed + number), spread_s * number / calls, counts, over)
        )
        for number in range(calls)
    ]
    try:
        while not over():
            left = max(0.1, end - time.monotonic())
            tell(level, left)
            done, _ = await asyncio.wait(callers, timeout=min(1.0, left), return_when=asyncio.FIRST_EXCEPTION)
            if done:
                break  # only an error ends a caller before the level is over
        done, _ = await asyncio.wait(callers, timeout=SETTLE_S, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()
    finally:
        for task in callers:
            task.cancel()
        await asyncio.gather(*callers, return_exceptions=True)
    tell(level, 0.0)
    return level


async def _caller(
    target: Target,
    questions: Sequence[Recording],
    talk: Talk,
    level: Level,
    chance: Random,
    after_s: float,
    counts: Callable[[], bool],
    over: Callable[[], bool],
) -> None:
    """Calls until the level is over, once at least."""
    await asyncio.sleep(after_s)
    while True:
        try:
            async with calling(target.host, target.port) as phone:
                await phone.greeted()
                for _ in range(talk.turns):
                    # what the phone takes for the end of an answer is a pause of PAUSE_S, which has passed already
                    await asyncio.sleep(max(0.0, chance.uniform(*talk.pause_s) - PAUSE_S))
                    if over():
                        return
                    counted = counts()
                    asked = await phone.ask(chance.choice(questions))
                    if counted and asked.overlapped:
                        level.overlapped += 1
                    elif counted:
                        level.first_audio_s.append(asked.first_audio_s)
        except CallRefusedError:
            level.refused += 1
            await asyncio.sleep(REFUSED_S)
        except NoAnswerError:
            level.unanswered += 1
        if over():
            return
        await asyncio.sleep(talk.gap_s)
