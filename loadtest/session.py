"""One run of a scenario against a system: callers, faults, and what each call heard, kept for later."""

import asyncio
import contextlib
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from loadtest.calls.kept import Heard
from loadtest.calls.line import Line, Losses
from loadtest.calls.record import Call
from loadtest.calls.sip import SipLine
from loadtest.calls.voices import Voices
from loadtest.cpu import Pids, Sampler
from loadtest.faults import Faults, KillReplica
from loadtest.results.assemble import assemble, path_of
from loadtest.results.record import Run
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


@dataclass(frozen=True)
class Setting:
    """What runs have in common.

    Attributes:
        kill: kills a replica; None: none can be killed.
        pids: of the system's processes by stage; None: they are not on this machine.
        system: what is called, in words.
    """

    questions: Sequence[Question]
    voices: Voices
    target: Target
    kill: KillReplica | None = None
    pids: Pids | None = None
    system: str = ""


async def trial(
    scenario: Scenario,
    setting: Setting,
    seed: int,
    tell: Callable[[Progress], None] = lambda progress: None,
    doing: Callable[[str], None] = lambda what: None,
) -> Run:
    """Places the calls of a plan; then measures what they heard.

    Args:
        tell: takes the state of the calls now and then.
        doing: takes what is done after them.

    Raises:
        ScenarioError: see `check`.
    """
    with tempfile.TemporaryDirectory(prefix="trunkline-heard-") as directory:
        kept = Path(directory)

        def keep(call: Call, line: Line) -> None:
            Heard.of(line.ear).save(path_of(kept, call))

        sampler = Sampler(setting.pids) if setting.pids is not None else None
        sampling = asyncio.create_task(sampler.run(time.monotonic())) if sampler is not None else None
        try:
            ran = await run(scenario, setting.questions, setting.voices, seed, setting.target, setting.kill, keep, tell)
        finally:
            if sampling is not None:
                sampling.cancel()
                await asyncio.gather(sampling, return_exceptions=True)
        samples = sampler.samples if sampler is not None else []
        return await asyncio.to_thread(
            assemble, scenario, setting.questions, seed, ran, kept, samples, setting.system, doing
        )


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
