"""`python -m loadtest`: measure step times, plan a deployment from them, call a system, check the plan against it."""

import asyncio
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.status import Status

from loadtest import cli_scenario, output
from loadtest.callers import Level, ramp
from loadtest.check import Compared, page, planned
from loadtest.child import ROOT, end_in_order_on_sigterm
from loadtest.failing import fail
from loadtest.phone import Recording
from loadtest.planning import NoPlanError, plan
from loadtest.scenario import model as scenarios
from loadtest.sim import profile as profiles
from loadtest.sim import report as reports
from loadtest.sim.costs import Outside
from loadtest.sim.profile import Load, Machine, Profile, ProfileError, Talk
from loadtest.sim.report import ReportError, Steps
from loadtest.sim.run import Outcome, simulate
from loadtest.stack import StackError, Target, demo, running

DOCS = ROOT / "docs" / "benchmarks"
WEIGHTS = ROOT / "weights" / "nano"
SAMPLES = ROOT / "samples"
STEPS = DOCS / "steps.json"
# A call of the load test: as many questions as fit into nano's context with room to spare.
TALK = Talk(pause_s=(1.0, 2.0), turns=4, gap_s=0.5)
LEVELS = "1,2,4"
TURNS = 120  # simulated at each load of a check
MOST_CALLS = 64  # that the demo takes
CHECK_LEVELS = ((1, 50.0), (2, 45.0), (4, 40.0), (8, 40.0), (12, 35.0))

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help=__doc__,
    pretty_exceptions_enable=False,
    callback=end_in_order_on_sigterm,
)
console = Console()

WeightsOption = Annotated[Path, typer.Option(help="directory with tokenizer, lm and decoder")]
SamplesOption = Annotated[Path, typer.Option(help="directory of recorded questions (WAV)")]
SeedOption = Annotated[int, typer.Option(help="same seed, same draws")]


@app.command()
def measure(
    weights: WeightsOption = WEIGHTS,
    samples: SamplesOption = SAMPLES,
    capacity: Annotated[int, typer.Option(min=1, max=4096, help="sessions that the lm's memory is made for")] = 16,
    out: Annotated[Path, typer.Option(help="the report that `plan` reads")] = STEPS,
) -> None:
    """Step times by batch on this machine's CPU, and what a call costs: a few minutes; keep the machine quiet."""
    with console.status("measuring") as status:
        found = _measure(weights, samples, capacity, status)
    _write_steps(out, found)
    console.print(f"written: {out}", soft_wrap=True)


def _measure(weights: Path, samples: Path, capacity: int, status: Status) -> Steps:
    # torch and the turn-taking models take seconds to load, which `plan` does not need
    from loadtest.measure.report import measure as measured
    from loadtest.phone import CallRefusedError, NoAnswerError
    from services.common.errors import SetupError, WeightsError

    try:
        return measured(weights, samples, capacity, status.update)
    except (ValueError, SetupError, WeightsError, StackError, CallRefusedError, NoAnswerError) as error:
        fail(error)


def _write_steps(path: Path, found: Steps) -> None:
    output.write_json(path, {"steps": found.model_dump(mode="json")})


@app.command("plan")
def plan_command(
    profile: Annotated[Path, typer.Option(help="YAML: how people talk, how many call, on which machines")],
    report: Annotated[Path, typer.Option(help="step times, from `python -m loadtest measure`")] = STEPS,
    target_first_audio: Annotated[float | None, typer.Option(help="seconds; instead of the profile's")] = None,
    percentile: Annotated[float | None, typer.Option(help="of answers; instead of the profile's")] = None,
    turns: Annotated[int, typer.Option(min=20, help="answers to simulate at each load")] = 300,
    seed: SeedOption = 1,
    out: Annotated[Path | None, typer.Option(help="writes OUT.json and OUT.png")] = None,
) -> None:
    """Replicas and GPUs for a load, by a simulation in virtual time with the engines' own batching."""
    try:
        steps, wanted = reports.load(report), profiles.load(profile)
        wanted = _with_target(wanted, target_first_audio, percentile)
    except (ReportError, ProfileError) as error:
        fail(error)
    if wanted.leg not in steps.legs:
        fail(f"{report} holds no costs of {wanted.leg} calls, only of {', '.join(steps.legs)}")
    console.print(f"steps: {steps.circumstances}", soft_wrap=True)

    def tell(found: Outcome) -> None:
        status.update(f"simulated {found.calls} calls: p{wanted.target.percentile:g} {found.at_percentile_s:.2f} s")

    try:
        with console.status("simulating") as status:
            found = plan(steps, wanted, seed=seed, turns=turns, tell=tell)
    except NoPlanError as error:
        fail(error)
    for table in output.plan_tables(found, steps, wanted):
        console.print(table)
    for warning in found.warnings:
        typer.echo(f"loadtest: warning: {warning}", err=True)
    if out is not None:
        output.write_json(out.with_suffix(".json"), output.plan_record(found, steps, wanted, seed))
        output.plan_plot(out.with_suffix(".png"), found, wanted)
        console.print(f"written: {out.with_suffix('.json')}, {out.with_suffix('.png')}", soft_wrap=True)


def _with_target(wanted: Profile, seconds: float | None, percentile: float | None) -> Profile:
    given = {"first_audio_s": seconds, "percentile": percentile}
    changed = {name: value for name, value in given.items() if value is not None}
    try:
        target = profiles.Target.model_validate({**wanted.target.model_dump(), **changed})
    except ValueError as error:
        raise ProfileError(f"the target: {error}") from error
    return wanted.model_copy(update={"target": target})


@app.command()
def run(
    scenario: Annotated[Path | None, typer.Argument(help="YAML: who calls when and talks how; see scenarios/")] = None,
    target: Annotated[str, typer.Option(help="HOST:PORT of a SIP agent; empty: the running `make demo`")] = "",
    page: Annotated[str, typer.Option(help="http://HOST:PORT of the agent's page, for WebRTC; needs --target")] = "",
    calls: Annotated[str, typer.Option(help="calls in all; without a scenario: at once, one level after another")] = "",
    seconds: Annotated[float, typer.Option(min=1, help="for which questions count, at each level")] = 40.0,
    answers: Annotated[int | None, typer.Option(min=1, help="after which a level is over before its time")] = None,
    samples: SamplesOption = SAMPLES,
    seed: SeedOption = 1,
    start: Annotated[bool, typer.Option("--start", help="start a system for the run, as `make demo` does")] = False,
    weights: WeightsOption = WEIGHTS,
    find_capacity: Annotated[
        int, typer.Option(min=0, help="search the largest number of calls at once, up to this, that keeps the targets")
    ] = 0,
    out: Annotated[Path | None, typer.Option(help="writes OUT.json, and OUT.html or (levels) OUT.png")] = None,
) -> None:
    """Simulated callers over SIP and WebRTC: speak, listen, and measure at their ear, by a scenario or at levels."""
    if scenario is not None:
        choice = cli_scenario.Choice(target="" if start else target, calls=calls, seed=seed, out=out)
        called = None if start else _called(target, page)
        cli_scenario.run(
            scenario, choice, called, weights, (find_capacity, seconds) if find_capacity else None, console
        )
        return
    if start or find_capacity:
        fail("--start and --find-capacity go with a scenario")
    calls = calls or LEVELS
    try:
        counts = [int(count) for count in calls.split(",")]
        if not all(1 <= count <= 1000 for count in counts):
            raise ValueError
    except ValueError:
        fail(f"--calls {calls}: numbers from 1 to 1000 with commas between them, such as 1,2,4")
    questions = _questions(samples)
    levels = _ramp(_called(target, page), questions, [(count, seconds) for count in counts], seed, answers)
    console.print(output.level_table(levels))
    if out is not None:
        output.write_json(out.with_suffix(".json"), {"levels": [output.level_record(level) for level in levels]})
        curves = [
            output.Curve("p95", [(level.calls, level.at(95)) for level in levels]),
            output.Curve("median", [(level.calls, level.p50_s) for level in levels], dashed=True),
        ]
        output.plot(out.with_suffix(".png"), curves, "First audio against calls, measured")
        console.print(f"written: {out.with_suffix('.json')}, {out.with_suffix('.png')}", soft_wrap=True)
    if not any(level.first_audio_s for level in levels):
        fail("no answer was heard")


def _questions(samples: Path) -> list[Recording]:
    from loadtest.recordings import recordings

    try:
        return [Recording.load(path) for path in recordings(samples)]
    except ValueError as error:
        fail(error)


def _called(target: str, page: str) -> Target:
    try:
        if target:
            return replace(_address(target), page=page.rstrip("/"), key=os.environ.get("TRUNKLINE_API_KEY", ""))
        return running(ROOT / ".demo" / "state.json")
    except (StackError, ValueError) as error:
        fail(error)


def _address(target: str) -> Target:
    host, _, port = target.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(f"--target {target}: HOST:PORT is wanted, such as 127.0.0.1:5060")
    return Target(host, int(port))


def _ramp(
    target: Target, questions: Sequence[Recording], levels: Sequence[tuple[int, float]], seed: int, enough: int | None
) -> list[Level]:
    with console.status("calling") as status:

        def tell(level: Level, left_s: float) -> None:
            heard = len(level.first_audio_s)
            median = f", median {level.p50_s:.2f} s" if heard else ""
            status.update(f"{level.calls} calls: {heard} answers{median}; {left_s:.0f} s left")
            if not left_s:
                console.print(f"{level.calls} calls: {heard} answers{median}")

        return asyncio.run(ramp(target, questions, TALK, levels, seed, tell, enough))


@app.command()
def check(
    weights: WeightsOption = WEIGHTS,
    samples: SamplesOption = SAMPLES,
    cores: Annotated[int | None, typer.Option(min=1, help="that these processes may use; all unless told")] = None,
    calls: Annotated[str, typer.Option(help="CALLS:SECONDS, ...")] = ",".join(f"{n}:{s:g}" for n, s in CHECK_LEVELS),
    steps: Annotated[Path | None, typer.Option(help="step times measured before; else they are measured now")] = None,
    out: Annotated[Path, typer.Option(help="directory for planner.md, planner.json, planner.png, steps.json")] = DOCS,
    seed: SeedOption = 1,
) -> None:
    """Measures steps, predicts, calls the demo's stack here, and compares: about 8 minutes on a quiet machine."""
    began = time.monotonic()
    available = sorted(os.sched_getaffinity(0))
    if cores is not None and cores > len(available):
        fail(f"--cores {cores}: this process may use {len(available)}")
    if cores is not None:
        os.sched_setaffinity(0, available[-cores:])
    os.environ["OMP_NUM_THREADS"] = "1"
    levels = _levels(calls)
    capacity = max(count for count, _ in levels)
    with console.status("measuring") as status:
        found = _measured(weights, samples, capacity, steps, status)
    _write_steps(out / "steps.json", found)
    profile = Profile(
        machines=[Machine(name="node", cores=len(os.sched_getaffinity(0)), runs=[*profiles.STAGES])],
        talk=TALK,
        load=Load(calls_at_once=capacity),
        callers_here=True,
    )
    outside, predictions = Outside(), []
    with console.status("predicting") as status:
        for count, _ in levels:
            status.update(f"predicting {count} calls")
            predictions.append(simulate(found, profile, {"node": 1}, count, seed=seed, turns=TURNS, outside=outside))
    measured = asyncio.run(_call(weights, samples, found, capacity, levels, seed))
    rows = [Compared(*pair) for pair in zip(predictions, measured, strict=True)]
    run_was = f"{len(os.sched_getaffinity(0))} cores, load {os.getloadavg()[0]:.1f} at the end"
    with console.status("planning"):
        lines = _carried(found, profile, seed, out)
    text = page(rows, found.circumstances, run_was, time.monotonic() - began, outside.warnings, lines)
    _write_check(out, rows, text, {"steps": found.circumstances, "run": run_was}, weights.name)
    console.print(text, markup=False, soft_wrap=True)


def _write_check(out: Path, rows: Sequence[Compared], text: str, circumstances: dict[str, str], weights: str) -> None:
    out.mkdir(parents=True, exist_ok=True)
    (out / "planner.md").write_text(text)
    output.write_json(out / "planner.json", {**circumstances, "levels": [output.compared_record(row) for row in rows]})
    output.plot(
        out / "planner.png",
        [
            output.Curve("p95 predicted", [(row.predicted.calls, row.predicted.at_percentile_s) for row in rows]),
            output.Curve("p95 measured", [(row.measured.calls, row.measured.at(95)) for row in rows], dashed=True),
            output.Curve("median predicted", [(row.predicted.calls, row.predicted.p50_s) for row in rows]),
            output.Curve("median measured", [(row.measured.calls, row.measured.p50_s) for row in rows], dashed=True),
        ],
        f"{weights} on {len(os.sched_getaffinity(0))} cores: predicted and measured",
    )


def _carried(steps: Steps, called: Profile, seed: int, out: Path) -> list[str]:
    """What such a machine carries when the callers are elsewhere; empty when not even one call."""
    profile = called.model_copy(update={"callers_here": False, "load": Load(calls_at_once=20)})
    try:
        found = plan(steps, profile, seed=seed, turns=TURNS)
    except NoPlanError as error:
        typer.echo(f"loadtest: warning: no plan: {error}", err=True)
        return []
    output.plan_plot(out / "plan-nano.png", found, profile)
    return planned(found, profile)


def _levels(text: str) -> list[tuple[int, float]]:
    try:
        levels = [(int(item.partition(":")[0]), float(item.partition(":")[2])) for item in text.split(",")]
    except ValueError:
        levels = []
    if not levels or not all(1 <= count <= MOST_CALLS and seconds > 0 for count, seconds in levels):
        fail(
            f"--calls {text}: pairs CALLS:SECONDS with commas between them, such as 1:40,2:40; calls up to {MOST_CALLS}"
        )
    return levels


def _measured(weights: Path, samples: Path, capacity: int, steps: Path | None, status: Status) -> Steps:
    if steps is None:
        return _measure(weights, samples, capacity, status)
    try:
        return reports.load(steps)
    except ReportError as error:
        fail(error)


async def _call(
    weights: Path, samples: Path, steps: Steps, capacity: int, levels: Sequence[tuple[int, float]], seed: int
) -> list[Level]:
    known = {question.name for question in steps.talk.questions}
    questions = [question for question in _questions(samples) if question.name in known]
    try:
        # a call that has just ended is still being wound up when the next one rings
        async with demo(weights, min(MOST_CALLS, capacity + 4)) as target:

            def tell(level: Level, left_s: float) -> None:
                if not left_s:
                    console.print(f"{level.calls} calls: {len(level.first_audio_s)} answers, {level.p50_s:.2f} s")

            await ramp(target, questions, TALK, [(1, 8.0)], seed, tell)  # nothing is cold from here on
            return await ramp(target, questions, TALK, levels, seed, tell)
    except StackError as error:
        fail(error)


@app.command("compare")
def compare_command(
    before: Annotated[Path, typer.Argument(help="JSON of a run of a scenario")],
    after: Annotated[Path, typer.Argument(help="JSON of another")],
    fail_on_worse: Annotated[bool, typer.Option("--fail-on-worse", help="status 1 when a figure is worse")] = False,
    seed: SeedOption = 1,
) -> None:
    """What changed between two runs, and what of it is more than chance."""
    cli_scenario.compare(before, after, fail_on_worse, seed, console)


@app.command()
def schema() -> None:
    """The JSON schema of scenarios, for editors."""
    typer.echo(scenarios.schema_text(), nl=False)
