"""`python -m loadtest run SCENARIO`."""

import asyncio
import statistics
from pathlib import Path

import typer
from rich.console import Console
from rich.status import Status

from loadtest import session
from loadtest.calls.record import OURS
from loadtest.calls.voices import Voices
from loadtest.failing import fail
from loadtest.run import Progress
from loadtest.scenario.model import Scenario, ScenarioError, load
from loadtest.scenario.questions import QuestionsError, questions
from loadtest.stack import Target


def run(path: Path, target: Target, calls: str, seed: int, console: Console) -> None:
    """Runs it; ends with status 1 when calls failed for the system's reasons."""
    try:
        scenario = load(path)
        if calls:
            scenario = _limited(scenario, calls)
        asked = questions(scenario.talk.questions)
        voices = Voices.load(asked)
        with console.status("calling") as status:
            ran = asyncio.run(
                session.run(scenario, asked, voices, seed, target, tell=lambda progress: _tell(status, progress))
            )
    except (ScenarioError, QuestionsError) as error:
        fail(error)
    outcomes = [call.outcome for call in ran.calls]
    counts = {outcome: outcomes.count(outcome) for outcome in outcomes}
    for outcome, count in counts.items():
        console.print(f"{outcome}: {count}")
    raise typer.Exit(1 if OURS & counts.keys() else 0)


def _limited(scenario: Scenario, calls: str) -> Scenario:
    if not calls.isdigit() or not int(calls):
        fail(f"--calls {calls}: with a scenario, how many calls in all, such as 100")
    return scenario.model_copy(update={"calls": int(calls)})


def _tell(status: Status, progress: Progress) -> None:
    ended = ", ".join(f"{outcome} {count}" for outcome, count in sorted(progress.outcomes.items()))
    heard = progress.first_audio_s
    median = f"; first audio {statistics.median(heard):.2f} s of {len(heard)}" if heard else ""
    status.update(f"{progress.at_s:.0f} s: {progress.live} calls; ended: {ended or 'none'}{median}")
