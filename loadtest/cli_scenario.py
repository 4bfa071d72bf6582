"""`python -m loadtest run SCENARIO` and `python -m loadtest compare A B`."""

import asyncio
import contextlib
import math
import statistics
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table

from loadtest import session
from loadtest.calls.voices import Voices
from loadtest.capacity import find
from loadtest.cpu import stages
from loadtest.failing import fail
from loadtest.fleet import fleet
from loadtest.results import compare as comparing
from loadtest.results.html import page
from loadtest.results.record import RecordError, Run, load, written
from loadtest.results.summary import Cost, costs, doubts, figures, outcomes, reasons, verdicts
from loadtest.run import Progress
from loadtest.scenario import model
from loadtest.scenario.model import AtOnce, Scenario, ScenarioError
from loadtest.scenario.questions import Question, QuestionsError, questions
from loadtest.session import Setting
from loadtest.stack import StackError, Target

SPREAD_S, BETWEEN_S = 20.0, 0.75  # over which the callers of a trial begin at most, and from one to the next


@dataclass(frozen=True)
class Choice:
    """What the command line says besides the scenario.

    Attributes:
        target: what is called, in words.
        calls: in all; empty: as the scenario says.
        out: where files go, without a suffix.
    """

    target: str
    calls: str
    seed: int
    out: Path | None


def run(
    path: Path,
    choice: Choice,
    called: Target | None,
    weights: Path,
    capacity: tuple[int, float] | None,
    console: Console,
) -> None:
    """Runs a scenario; ends with status 1 when targets are missed, or calls failed by the callers' own mistakes.

    Args:
        called: the system; None: one is started with these weights.
        capacity: the most calls to try, and seconds for each number, when capacity is searched.
    """
    try:
        scenario = model.load(path)
        if choice.calls:
            scenario = _limited(scenario, choice.calls)
        asked = questions(scenario.talk.questions)
        if capacity is not None:
            scenario = _for_search(scenario, capacity[0])
        holds = asyncio.run(_run(scenario, asked, choice, called, weights, capacity, console))
    except (ScenarioError, QuestionsError, StackError) as error:
        fail(error)
    raise typer.Exit(0 if holds else 1)


async def _run(
    scenario: Scenario,
    asked: list[Question],
    choice: Choice,
    called: Target | None,
    weights: Path,
    capacity: tuple[int, float] | None,
    console: Console,
) -> bool:
    voices = Voices.load(asked)
    async with _system(scenario, asked, voices, called, choice.target, weights, console) as setting:
        if capacity is None:
            found = await _shown(scenario, setting, choice.seed, console)
            _tell(found, console)
            _write(found, choice.out, console)
            return all(verdict.holds for verdict in verdicts(found)) and not any(
                call.outcome == "caller" for call in found.calls
            )
        return await _search(scenario, setting, choice, capacity, console)


@contextlib.asynccontextmanager
async def _system(
    scenario: Scenario,
    asked: list[Question],
    voices: Voices,
    called: Target | None,
    named: str,
    weights: Path,
    console: Console,
) -> AsyncIterator[Setting]:
    if called is not None:
        pids = (lambda: stages(called.pids)) if called.pids else None
        yield Setting(asked, voices, called, pids=pids, system=f"Called: {named or 'the running demo'}")
        return
    async with contextlib.AsyncExitStack() as stack:
        with console.status("starting a system"):
            running = await stack.enter_async_context(fleet(weights, scenario.system))
        words = f"Called: a system with {weights.name}, started on the callers' machine"
        yield Setting(asked, voices, running.target, running.kill, running.pids, words)


def _limited(scenario: Scenario, calls: str) -> Scenario:
    if not calls.isdigit() or not int(calls):
        fail(f"--calls {calls}: with a scenario, how many calls in all, such as 100")
    return scenario.model_copy(update={"calls": int(calls)})


def _for_search(scenario: Scenario, most: int) -> Scenario:
    """Without faults; and whoever is refused or fails does not keep the targets."""
    none = {"refused": 0.0, "failed": 0.0}
    given = {name: value for name, value in scenario.targets.model_dump().items() if value is not None}
    if not given.keys() - none.keys():
        raise ScenarioError("targets: --find-capacity needs one, such as first_audio_p95_s: 1.0")
    system = scenario.system.model_copy(update={"capacity": max(scenario.system.capacity, most + 4)})
    targets = scenario.targets.model_copy(update={**none, **given})
    return scenario.model_copy(update={"targets": targets, "system": system, "faults": [], "calls": None})


def at(scenario: Scenario, calls: int, seconds: float) -> Scenario:
    """The same callers, so many at once."""
    spread_s = min(SPREAD_S, BETWEEN_S * calls)
    phase = AtOnce(kind="at_once", calls=calls, for_s=seconds + spread_s, spread_s=spread_s)
    return scenario.model_copy(update={"phases": [phase]})


async def _search(
    scenario: Scenario, setting: Setting, choice: Choice, capacity: tuple[int, float], console: Console
) -> bool:
    runs: dict[int, Run] = {}

    async def holds(calls: int) -> bool:
        found = runs[calls] = await _shown(at(scenario, calls, capacity[1]), setting, choice.seed, console)
        missed = [f"{verdict.found.name} {verdict.found.text}" for verdict in verdicts(found) if not verdict.holds]
        console.print(f"{calls} calls at once: {'missed: ' + ', '.join(missed) if missed else 'all targets hold'}")
        return not missed

    most, _ = capacity
    result = await find(holds, first=min(4, most), most=most)
    beyond = f"; {result.beyond} do not" if result.beyond is not None else f"; no more than {most} were tried"
    console.print(f"[bold]{result.calls} calls at once keep the targets[/bold]{beyond}")
    shown = runs[result.calls] if result.calls else runs[result.tried[-1][0]]
    _tell(shown, console)
    _write(shown, choice.out, console)
    return result.calls > 0


async def _shown(scenario: Scenario, setting: Setting, seed: int, console: Console) -> Run:
    with Live(console=console, refresh_per_second=2, transient=True) as live:
        return await session.trial(
            scenario, setting, seed, lambda progress: live.update(_progress(scenario, progress)), live.update
        )


def _progress(scenario: Scenario, progress: Progress) -> Table:
    table = Table(title=f"{scenario.name}: {progress.at_s:.0f} s", min_width=60)
    table.add_column("calls now", justify="right")
    table.add_column("begun", justify="right")
    table.add_column("ended")
    table.add_column("answers", justify="right")
    table.add_column("first audio, median", justify="right")
    table.add_column("of the last 20", justify="right")
    heard = progress.first_audio_s
    table.add_row(
        str(progress.live),
        f"{progress.begun}" + (f" of {scenario.calls}" if scenario.calls else ""),
        "\n".join(f"{outcome}: {count}" for outcome, count in sorted(progress.outcomes.items())),
        str(len(heard)),
        f"{statistics.median(heard):.2f} s" if heard else "",
        f"{statistics.median(heard[-20:]):.2f} s" if heard else "",
    )
    return table


def _tell(found: Run, console: Console) -> None:
    """Figures, costs, targets, doubts."""
    table = Table(title=f"{found.scenario.name}: {len(found.calls)} calls in {found.seconds:.0f} s")
    table.add_column("figure")
    table.add_column("value", justify="right")
    table.add_column("of", justify="right")
    for figure in figures(found):
        if figure.of:
            table.add_row(figure.name, figure.text, str(figure.of))
    console.print(table)
    if spent := costs(found):
        table = Table(title="processor time")
        for name in ("stage", "cores busy", "core-ms per call-second", "per spoken second"):
            table.add_column(name, justify="left" if name == "stage" else "right")
        for cost in spent:
            table.add_row(cost.stage, f"{cost.cores:.2f}", f"{cost.per_call:.1f}", f"{cost.per_spoken:.1f}")
        console.print(table)
    console.print("calls: " + ", ".join(f"{outcome} {count}" for outcome, count in outcomes(found).items()))
    for reason, count in reasons(found).items():
        console.print(f"  {reason}: {count}", markup=False)
    for verdict in verdicts(found):
        mark = "[green]holds [/green]" if verdict.holds else "[red]missed[/red]"
        console.print(f"{mark} {verdict.target} {verdict.wanted:g}: {verdict.found.text} of {verdict.found.of}")
    for doubt in doubts(found):
        console.print(f"[yellow]not to be trusted:[/yellow] {doubt}", soft_wrap=True)


def _write(found: Run, out: Path | None, console: Console) -> None:
    if out is None:
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    summary = {figure.key: None if math.isnan(figure.value) else round(figure.value, 5) for figure in figures(found)}
    targets = [
        {"target": verdict.target, "wanted": verdict.wanted, "holds": verdict.holds} for verdict in verdicts(found)
    ]
    spent = [_rounded(cost) for cost in costs(found)]
    out.with_suffix(".json").write_text(written(found, {"figures": summary, "targets": targets, "costs": spent}))
    out.with_suffix(".html").write_text(page(found))
    console.print(f"written: {out.with_suffix('.json')}, {out.with_suffix('.html')}", soft_wrap=True)


def _rounded(cost: Cost) -> dict[str, object]:
    return {name: round(value, 3) if isinstance(value, float) else value for name, value in vars(cost).items()}


def compare(before: Path, after: Path, fail_on_worse: bool, seed: int, console: Console) -> None:
    """Prints a table; ends with status 1 when something is worse and that is asked for."""
    try:
        one, other = load(before), load(after)
    except RecordError as error:
        fail(error)
    for warning in comparing.warnings(one, other):
        typer.echo(f"loadtest: warning: {warning}", err=True)
    colours = {"worse": "red", "better": "green", "": "default"}
    table = Table(title=f"{before.name} and {after.name}")
    for name in ("figure", "before", "after", "difference, 95 %", ""):
        table.add_column(name, justify="left" if name in ("figure", "") else "right")
    changes = comparing.compare(one, other, seed)
    for change in changes:
        low, high = (_signed(value, change.after.unit) for value in (change.low, change.high))
        interval = "-" if math.isnan(change.low) else f"{low} to {high}"
        table.add_row(
            change.after.name,
            change.before.text,
            change.after.text,
            interval,
            change.verdict,
            style=colours[change.verdict],
        )
    for cost in comparing.compare_costs(one, other):
        table.add_row(
            f"{cost.after.stage}, core-ms per call-second",
            f"{cost.before.per_call:.1f}",
            f"{cost.after.per_call:.1f}",
            f"{cost.after.per_call - cost.before.per_call:+.1f}",
            cost.verdict,
            style=colours[cost.verdict],
        )
    console.print(table)
    worse = [change.after.name for change in changes if change.verdict == "worse"]
    worse += [cost.after.stage for cost in comparing.compare_costs(one, other) if cost.verdict == "worse"]
    console.print(f"worse: {', '.join(worse)}" if worse else "nothing is worse by more than chance", soft_wrap=True)
    raise typer.Exit(1 if worse and fail_on_worse else 0)


def _signed(value: float, unit: str) -> str:
    match unit:
        case "%":
            return f"{100 * value:+.1f}"
        case "ms":
            return f"{1000 * value:+.1f}"
    return f"{value:+.2f}"
