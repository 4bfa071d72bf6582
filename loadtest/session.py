"""One run of a scenario against a system: callers, faults, and what each call heard, kept for later."""

import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from random import Random

from loadtest.calls.line import Line, Losses
from loadtest.calls.record import Call
from loadtest.calls.sip import SipLine
from loadtest.calls.voices import Voices
from loadtest.faults import Faults, KillReplica
from loadtest.run import Progress, Ran, Runner
from loadtest.scenario.model import Kill, Scenario, ScenarioError
from loadtest.scenario.plan import PlannedCall, plan
from loadtest.scenario.questions import Question
from loadtest.stack import Target


def check(scenario: Scenario, target: Target, kill: KillReplica | None) -> None:
    """Whether a system can be put through a scenario.

    Raises:
        ScenarioError: it cannot; the message says what is missing.
    """
    if scenario.legs.get("webrtc") and not target.page:
        raise ScenarioError("legs: webrtc needs the address of the agent's page: --page http://HOST:PORT")
    if kill is None and any(isinstance(fault, Kill) for fault in scenario.faults):
        raise ScenarioError("faults: kill needs a system that the run starts itself: --start")


async def run(
    scenario: Scenario,
    questions: Sequence[Question],
    voices: Voices,
    seed: int,
    target: Target,
    kill: KillReplica | None = None,
    keep: Callable[[Call, Line], None] = lambda call, line: None,
    tell: Callable[[Progress], None] = lambda progress: None,
) -> Ran:
    """Places the calls of a plan.

    Raises:
        ScenarioError: see `check`.
    """
    check(scenario, target, kill)
    planned = plan(scenario, seed)
    losses = Losses(Random(f"{seed}:losses"))
    async with _lines(scenario, voices, target, losses) as line:
        breaks = Faults(planned.faults, losses, kill)
        return await Runner(scenario, planned, questions, seed, line, keep, breaks, tell).run()


@contextlib.asynccontextmanager
async def _lines(
    scenario: Scenario, voices: Voices, target: Target, losses: Losses
) -> AsyncIterator[Callable[[PlannedCall], Line]]:
    answer_s = scenario.talk.patience_s

    def by_sip(planned: PlannedCall) -> Line:
        return SipLine(target.host, target.port, planned, voices, answer_s, losses)

    if not scenario.legs.get("webrtc"):
        yield by_sip
        return
    from loadtest.calls.webrtc import WebLine, browser  # takes a second, which calls by phone alone do not need

    async with browser() as http:

        def by_either(planned: PlannedCall) -> Line:
            if planned.leg == "sip":
                return by_sip(planned)
            key = target.key if planned.persona else ""
            return WebLine(target.page, http, key, planned, voices, answer_s, losses)

        yield by_either
