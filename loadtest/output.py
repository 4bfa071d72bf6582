"""Tables, JSON and plots of plans and of runs."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from loadtest.callers import Level
from loadtest.check import Compared
from loadtest.planning import Plan, talk_share
from loadtest.sim.profile import Profile
from loadtest.sim.report import Steps
from loadtest.sim.run import Outcome


@dataclass(frozen=True)
class Curve:
    """A line of a plot, or points."""

    name: str
    points: Sequence[tuple[float, float]]
    dashed: bool = False


def plan_tables(found: Plan, steps: Steps, profile: Profile) -> list[Table]:
    """What it takes, where the time goes, and how it behaves around that load."""
    target = profile.target
    machines = Table(title=f"{found.calls} calls at once, talk share {talk_share(steps, profile):.0%}")
    for name in ("machine", "runs", "replicas", "cores", "GPUs", "busy"):
        machines.add_column(name, justify="left" if name in ("machine", "runs") else "right")
    for machine in profile.machines:
        count = found.replicas[machine.name]
        machines.add_row(
            machine.name,
            ", ".join(machine.runs),
            str(count),
            str(count * machine.cores) if machine.cores else "",
            str(count * machine.gpus) if machine.gpus else "",
            f"{found.chosen.busy[machine.name]:.0%}",
        )
    stages = Table(title=f"Processor time at {found.chosen.calls} calls")
    stages.add_column("stage")
    stages.add_column("processors", justify="right")
    stages.add_column("ms per call-second", justify="right")
    for name, seconds in found.chosen.stages.items():
        stages.add_row(name, f"{seconds:.2f}", f"{1000 * seconds / found.chosen.calls:.1f}")
    curve = Table(title=f"First audio; target: {target.percentile:g} % within {target.first_audio_s:g} s")
    for name in ("calls", "median", f"p{target.percentile:g}", "busiest", "answers that run dry", "of n"):
        curve.add_column(name, justify="right")
    for outcome in found.curve:
        mark = " <" if outcome.calls == found.chosen.calls else ""
        curve.add_row(
            f"{outcome.calls}{mark}",
            f"{outcome.p50_s:.2f} s",
            f"{outcome.at_percentile_s:.2f} s",
            f"{max(outcome.busy.values()):.0%}",
            f"{outcome.gaps:.0%}",
            str(outcome.turns),
        )
    return [machines, stages, curve]


def plan_record(found: Plan, steps: Steps, profile: Profile, seed: int) -> dict[str, Any]:
    """A plan as JSON."""
    return {
        "report": steps.circumstances,
        "profile": profile.model_dump(mode="json"),
        "seed": seed,
        "calls": found.calls,
        "replicas": found.replicas,
        "chosen": outcome_record(found.chosen),
        "curve": [outcome_record(outcome) for outcome in found.curve],
        "warnings": list(found.warnings),
    }


def outcome_record(outcome: Outcome) -> dict[str, Any]:
    """JSON knows no infinity."""
    record = asdict(outcome)
    return {name: None if value == math.inf else value for name, value in record.items()}


def level_record(level: Level) -> dict[str, Any]:
    """What was measured, each answer."""
    return {
        "calls": level.calls,
        "answers": len(level.first_audio_s),
        "p50_s": level.p50_s if level.first_audio_s else None,
        "p95_s": level.at(95) if level.first_audio_s else None,
        "refused": level.refused,
        "unanswered": level.unanswered,
        "overlapped": level.overlapped,
        "first_audio_s": [round(seconds, 4) for seconds in level.first_audio_s],
    }


def compared_record(row: Compared) -> dict[str, Any]:
    """A prediction beside a measurement."""
    return {
        "predicted": outcome_record(row.predicted),
        "measured": level_record(row.measured),
        "p50_ratio": row.p50_ratio if math.isfinite(row.p50_ratio) else None,
        "p95_ratio": row.p95_ratio if math.isfinite(row.p95_ratio) else None,
    }


def level_table(levels: Sequence[Level]) -> Table:
    """What was measured."""
    table = Table(title="First audio after the caller's last sound, at the caller's ear")
    for name in ("calls", "median", "p95", "of n", "refused", "unanswered", "overlapped"):
        table.add_column(name, justify="right")
    for level in levels:
        times = (f"{level.p50_s:.2f} s", f"{level.at(95):.2f} s", str(len(level.first_audio_s)))
        missed = (level.refused, level.unanswered, level.overlapped)
        table.add_row(str(level.calls), *times, *map(str, missed))
    return table


def write_json(path: Path, record: Mapping[str, Any]) -> None:
    """Makes the directory if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1) + "\n")


def plan_plot(path: Path, found: Plan, profile: Profile) -> None:
    """A plan's curve with its chosen point."""
    percent = f"p{profile.target.percentile:g}"
    plot(
        path,
        [
            Curve(percent, [(item.calls, item.at_percentile_s) for item in found.curve]),
            Curve("median", [(item.calls, item.p50_s) for item in found.curve], dashed=True),
        ],
        f"{percent} first audio against calls, predicted",
        profile.target.first_audio_s,
        (found.chosen.calls, found.chosen.at_percentile_s),
    )


def plot(
    path: Path,
    curves: Sequence[Curve],
    title: str,
    target_s: float | None = None,
    chosen: tuple[float, float] | None = None,
) -> None:
    """First audio against calls.

    Args:
        target_s: drawn as a line.
        chosen: (calls, seconds), marked.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4))
    for curve in curves:
        points = [(x, y) for x, y in curve.points if math.isfinite(y)]
        style = "--" if curve.dashed else "-"
        axes.plot([x for x, _ in points], [y for _, y in points], style, marker="o", markersize=4, label=curve.name)
    if target_s is not None:
        axes.axhline(target_s, color="grey", linewidth=1, label=f"target {target_s:g} s")
        highest = max((y for curve in curves for _, y in curve.points if math.isfinite(y)), default=target_s)
        axes.set_ylim(0, min(1.1 * max(highest, target_s), 3 * target_s))
    else:
        axes.set_ylim(bottom=0)
    if chosen is not None:
        axes.plot([chosen[0]], [chosen[1]], "D", markersize=9, fillstyle="none", color="black", label="chosen")
    axes.set(title=title, xlabel="calls at once", ylabel="first audio after the caller's last sound, s")
    axes.grid(alpha=0.3)
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=80, bbox_inches="tight")
    pyplot.close(figure)
