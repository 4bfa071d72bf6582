"""`python -m benchmarks.agent`: what a call costs the agent alone, beside a bare bot; and how many it carries."""

import asyncio
import os
import platform
import time
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.status import Status

from benchmarks.agent import soak_report
from benchmarks.agent.findings import cost, limit
from benchmarks.agent.measuring import Sample, measure
from benchmarks.agent.soak import BETWEEN_RESTS, LOG, soak
from benchmarks.agent.systems import both
from benchmarks.report import Section, write
from loadtest.child import end_in_order_on_sigterm
from loadtest.run import Progress

DOCS = Path(__file__).resolve().parents[2] / "docs" / "benchmarks"
WARM_S = 5.0

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__, callback=end_in_order_on_sigterm)
console = Console()
Out = Annotated[Path, typer.Option(help="directory of the report: page, JSON and plot")]
Seconds = Annotated[float, typer.Option(min=1.0, help="of each measurement; whole periods of 10 s are best")]
Calls = Annotated[str, typer.Option(help="calls at once, separated by commas")]


@app.command("cost")
def measure_cost(
    calls: Calls = "1,4,8",
    rounds: Annotated[int, typer.Option(min=1, help="how often everything is measured")] = 3,
    seconds: Seconds = 20.0,
    out: Out = DOCS,
) -> None:
    """Milliseconds of processor time per second of call: SIP, WebRTC, and a bare bot of pipecat and aiortc.

    Takes about (seconds + 9) x 3 x rounds x levels: 13 minutes by default. Keep the machine quiet.
    """
    levels = _levels(calls)
    samples = asyncio.run(_costs(levels, rounds, seconds))
    _write(out, "agent-cost", "What a call costs the agent", samples, cost(samples))


@app.command("limit")
def measure_limit(calls: Calls = "4,6,8,12,16", seconds: Seconds = 20.0, out: Out = DOCS) -> None:
    """WebRTC calls at once on one agent: when its event loop falls behind, and when callers hear it.

    Takes about (seconds + 10) x 2 x levels: 5 minutes by default. Keep the machine quiet.
    """
    levels = _levels(calls)
    samples = asyncio.run(_limits(levels, seconds))
    _write(out, "agent-limit", "WebRTC calls that one agent carries", samples, limit(samples))


@app.command("soak")
def measure_soak(
    calls: Annotated[int, typer.Option(min=400, help="calls that count")] = 2000,
    warm: Annotated[int, typer.Option(min=1, help="calls before them")] = 60,
    out: Out = DOCS,
) -> None:
    """Short calls over both legs, many hung up at a random moment: none may fail, nothing of them may be left.

    Takes two thirds of a second a call: 22 to 25 minutes by default.
    """
    began = time.time()
    with console.status("starting") as status:
        soaked = asyncio.run(soak(calls, warm, _Teller(status)))
    circumstances = (
        f"{calls} calls after {warm} that do not count; {os.cpu_count()} cores ({platform.machine()}), "
        f"{time.strftime('%d %B %Y', time.gmtime(began))}, load {os.getloadavg()[2]:.1f} over the last quarter of an "
        "hour. Made by `make soak` (`python -m benchmarks.agent soak`)."
    )
    console.print(f"written: {soak_report.write(soaked, out, circumstances)}")
    wrong = soak_report.objections(soaked)
    console.print("; ".join(wrong) or "passed")
    if wrong:
        console.print(f"the agent's log: {LOG}", soft_wrap=True)
    raise typer.Exit(1 if wrong else 0)


class _Teller:
    """Shows how far the calls are: in one line, or in one for each hundred where nothing can be shown twice."""

    def __init__(self, status: Status) -> None:
        self._status = status
        self._told = 0

    def __call__(self, before: Counter[str], progress: Progress) -> None:
        outcomes = before + Counter({str(outcome): count for outcome, count in progress.outcomes.items()})
        line = "ended: " + (", ".join(f"{outcome} {count}" for outcome, count in sorted(outcomes.items())) or "none")
        self._status.update(f"{progress.live} calls; {line}")
        hundreds = sum(outcomes.values()) // BETWEEN_RESTS
        if hundreds > self._told and not console.is_terminal:
            console.print(line)
            self._told = hundreds


def _levels(calls: str) -> list[int]:
    try:
        levels = sorted({int(part) for part in calls.split(",")})
    except ValueError:
        raise typer.BadParameter(f"{calls!r} is no list of numbers") from None
    if not levels or levels[0] < 1 or levels[-1] > 64:
        raise typer.BadParameter("between 1 and 64 calls at once")
    return levels


async def _costs(levels: list[int], rounds: int, seconds: float) -> list[Sample]:
    """All systems at each level, round after round, each time in another order: noise hits all alike."""
    samples: list[Sample] = []
    async with both() as (ours, bare):
        plan = [(ours, "webrtc"), (bare, "webrtc"), (ours, "sip")]
        for system, leg in plan:
            await measure(system, leg, 1, WARM_S)
        for number in range(rounds):
            for level in levels:
                for system, leg in plan:
                    samples.append(_shown(await measure(system, leg, level, seconds)))
                plan = plan[1:] + plan[:1]
            console.print(f"round {number + 1} of {rounds}")
    return samples


async def _limits(levels: list[int], seconds: float) -> list[Sample]:
    samples: list[Sample] = []
    async with both() as (ours, bare):
        for system in (ours, bare):
            await measure(system, "webrtc", 1, WARM_S)
        for level in levels:
            for system in (ours, bare):
                sample = await measure(system, "webrtc", level, seconds)
                samples.append(_shown(sample))
    return samples


def _shown(sample: Sample) -> Sample:
    console.print(
        f"{sample.system}, {sample.leg}, {sample.calls} calls: {sample.ms:.1f} ms per call-second, "
        f"main process {sample.busy:.0%} of a core, late {sample.late_share:.1%}, gap p99 "
        f"{1000 * sample.gap_p99_s:.0f} ms, request p95 {1000 * sample.probe_p95_s:.0f} ms "
        f"(callers' own lag {1000 * sample.own_probe_p95_s:.0f} ms), sound {sample.sound_share:.0%}"
    )
    return sample


def _write(out: Path, name: str, title: str, samples: list[Sample], section: Section) -> None:
    seconds = sum(sample.seconds for sample in samples)
    circumstances = (
        f"{os.cpu_count()} cores ({platform.machine()}), {time.strftime('%d %B %Y', time.gmtime())}, load "
        f"{os.getloadavg()[2]:.1f} over the last quarter of an hour, {len(samples)} measurements of "
        f"{seconds / len(samples):.0f} s. Made by `python -m benchmarks.agent {name.removeprefix('agent-')}`."
    )
    console.print(f"written: {write(out, name, title, circumstances, [section])}")


if __name__ == "__main__":
    app()
