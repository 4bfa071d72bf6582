"""Runs a plan: places its calls when they are due, breaks what is to be broken, and keeps what became of each."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from random import Random

from loadtest.calls.conduct import CLOSE_S, LONGEST_ANSWER_S, Conductor
from loadtest.calls.line import Line
from loadtest.calls.record import Asked, Call, Outcome
from loadtest.calls.sip import BYE_S
from loadtest.scenario.model import Scenario
from loadtest.scenario.plan import Plan, PlannedCall, Slot, drawn, planned_call
from loadtest.scenario.questions import Question

SETTLE_S = LONGEST_ANSWER_S + BYE_S + CLOSE_S + 30.0  # for calls to end when the run is over, beside their patience
AGAIN_S = 2.0  # before someone who was refused calls again
TELL_S = 0.5
LAG_S = 0.05  # how often the event loop is asked how late it is

MakeLine = Callable[[PlannedCall], Line]
Keep = Callable[[Call, Line], None]


@dataclass
class Progress:
    """What a run has come to.

    Attributes:
        live: calls now.
        first_audio_s: of answers so far.
        at_s: of the run.
    """

    seconds: float
    at_s: float = 0.0
    live: int = 0
    begun: int = 0
    outcomes: "Counter[Outcome]" = field(default_factory=Counter)
    details: "Counter[str]" = field(default_factory=Counter)
    first_audio_s: list[float] = field(default_factory=list)


@dataclass
class Ran:
    """A run.

    Attributes:
        began: monotonic seconds, as all times in `calls`.
        began_unix: the same moment.
        live: times (of the run) and calls at once, at each change.
        faults: times and what was done.
        lag_s: by how much this process's event loop came too late, sampled.
    """

    began: float
    began_unix: float
    calls: list[Call] = field(default_factory=list)
    live: list[tuple[float, int]] = field(default_factory=list)
    faults: list[tuple[float, str]] = field(default_factory=list)
    lag_s: list[float] = field(default_factory=list)


class Runner:
    """One run.

    Args:
        line: makes a call's line.
        keep: takes what was heard, when a call has ended.
        breaks: does the plan's faults, and notes them; cancelled at the end.
        tell: takes the state now and then.
    """

    def __init__(
        self,
        scenario: Scenario,
        plan: Plan,
        questions: Sequence[Question],
        seed: int,
        line: MakeLine,
        keep: Keep = lambda call, line: None,
        breaks: Callable[[float, list[tuple[float, str]]], Awaitable[None]] | None = None,
        tell: Callable[[Progress], None] = lambda progress: None,
    ) -> None:
        self._scenario, self._plan, self._questions, self._seed = scenario, plan, questions, seed
        self._line, self._keep, self._breaks, self._tell = line, keep, breaks, tell
        self._ends = frozenset(question.name for question in questions if question.ends)
        self.progress = Progress(plan.seconds)
        self._left = scenario.calls

    async def run(self) -> Ran:
        """All of it, to the end of the last call."""
        self._ran = ran = Ran(time.monotonic(), time.time())
        self._over = asyncio.Event()
        around = [asyncio.create_task(self._watch(), name="loadtest-watch")]
        if self._breaks is not None:
            around.append(asyncio.ensure_future(self._breaks(ran.began, ran.faults)))
        callers = [asyncio.create_task(self._arrive(at, number)) for at, number in self._plan.arrivals]
        callers += [asyncio.create_task(self._slot(slot)) for slot in self._plan.slots]
        try:
            finished = asyncio.gather(*callers)
            done, _ = await asyncio.wait({finished}, timeout=self._plan.seconds)
            self._over.set()
            if not done:
                talk = self._scenario.talk
                settle_s = SETTLE_S + talk.patience_s + talk.greeting_s
                await asyncio.wait({finished}, timeout=settle_s)
            if not finished.done():
                raise RuntimeError(f"{self.progress.live} calls did not end")
            finished.result()
        finally:
            for task in [*callers, *around]:
                task.cancel()
            await asyncio.gather(*callers, *around, return_exceptions=True)
        self._tell(self.progress)
        return ran

    async def _arrive(self, at_s: float, number: int) -> None:
        await asyncio.sleep(max(0.0, self._ran.began + at_s - time.monotonic()))
        await self._call(number)

    async def _slot(self, slot: Slot) -> None:
        """One caller after another, the first at least."""
        chance = Random(f"{self._seed}:slot:{slot.first}")
        await asyncio.sleep(max(0.0, self._ran.began + slot.at_s - time.monotonic()))
        number = slot.first
        while True:
            call = await self._call(number)
            if call is None:
                return
            number += slot.step
            gap_s = max(drawn(slot.gap_s, chance), AGAIN_S if call.outcome is Outcome.REFUSED else 0.0)
            if time.monotonic() + gap_s >= self._ran.began + slot.until_s:
                return
            await asyncio.sleep(gap_s)

    async def _call(self, number: int) -> Call | None:
        """A call; None when there have been enough."""
        if self._left is not None:
            if not self._left:
                return None
            self._left -= 1
        plan = planned_call(self._scenario, self._questions, self._seed, number)
        line = self._line(plan)
        conductor = Conductor(line, plan, self._scenario.talk, self._ends, self._over, self._answered)
        self._live(+1)
        self.progress.begun += 1
        try:
            call = await conductor.run()
        finally:
            self._live(-1)
        self.progress.outcomes[call.outcome] += 1
        if call.detail:
            self.progress.details[f"{call.outcome}: {call.detail}"] += 1
        self._ran.calls.append(call)
        self._keep(call, line)
        return call

    def _live(self, more: int) -> None:
        self.progress.live += more
        self._ran.live.append((time.monotonic() - self._ran.began, self.progress.live))

    def _answered(self, asked: Asked) -> None:
        assert asked.first_at is not None
        self.progress.first_audio_s.append(asked.first_at - asked.said_until)

    async def _watch(self) -> None:
        """Tells, and measures how late this process is."""
        told = 0.0
        while True:
            before = time.monotonic()
            await asyncio.sleep(LAG_S)
            now = time.monotonic()
            self._ran.lag_s.append(max(0.0, now - before - LAG_S))
            if now - told >= TELL_S:
                told = now
                self.progress.at_s = now - self._ran.began
                self._tell(self.progress)
