"""What an acceptance run found: right answers by row, failures with what was heard, and where the time went."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Asked:
    """One question of the run.

    Attributes:
        row: of the domain's table.
        needed: phrases that a right answer contains.
        heard: the judge's transcript of what the phone heard.
        right: by what was heard.
        caption: what the agent says that it said.
        caption_right: by the caption: the model understood, whether or not its voice can be.
        stages: milliseconds from the caller's end of speech.
        problem: why there was no answer at all.
    """

    text: str
    row: int
    intent: str
    needed: tuple[str, ...]
    heard: str = ""
    right: bool = False
    caption: str = ""
    caption_right: bool = False
    stages: dict[str, float] = field(default_factory=dict)
    problem: str = ""


@dataclass(frozen=True)
class StageTimes:
    """Of one stage, over turns: when it was reached after the end of speech, and how long it took, in milliseconds."""

    name: str
    turns: int
    reached_median: float
    reached_p95: float
    took_median: float
    took_p95: float


def percentile_95(values: Sequence[float]) -> float:
    """The nearest-rank 95th percentile."""
    return sorted(values)[max(0, -(-len(values) * 95 // 100) - 1)]


def stage_times(turns: Iterable[dict[str, float]]) -> list[StageTimes]:
    """By stage, in the order of their medians."""
    reached: dict[str, list[float]] = {}
    took: dict[str, list[float]] = {}
    for stages in turns:
        before = 0.0
        for name, end in sorted(stages.items(), key=lambda stage: stage[1]):
            reached.setdefault(name, []).append(end)
            took.setdefault(name, []).append(end - before)
            before = end
    rows = [
        StageTimes(
            name,
            len(ends),
            statistics.median(ends),
            percentile_95(ends),
            statistics.median(took[name]),
            percentile_95(took[name]),
        )
        for name, ends in reached.items()
    ]
    return sorted(rows, key=lambda row: row.reached_median)


def markdown(results: Sequence[Asked], title: str, circumstances: str) -> str:
    """The page for docs/benchmarks."""
    right = sum(result.right for result in results)
    lines = [f"# {title}", "", circumstances, "", f"**{right} of {len(results)} answers are right as heard.**"]
    lines += [f"By their captions {sum(result.caption_right for result in results)} are.", ""]
    lines += ["| row of the domain | right as heard | by caption | of |", "|---|---|---|---|"]
    for row in sorted({result.row for result in results}):
        of_row = [result for result in results if result.row == row]
        names = ", ".join(sorted({result.intent for result in of_row}))
        heard, shown = (sum(getattr(result, what) for result in of_row) for what in ("right", "caption_right"))
        lines.append(f"| {row} {names} | {heard} | {shown} | {len(of_row)} |")
    lines += ["", "## First audio after the caller's end of speech", ""]
    times = stage_times(result.stages for result in results if result.stages)
    lines += ["| stage | reached, median ms | p95 ms | took, median ms | p95 ms | turns |", "|---|---|---|---|---|---|"]
    lines += [
        f"| {row.name} | {row.reached_median:.0f} | {row.reached_p95:.0f} | {row.took_median:.0f} | {row.took_p95:.0f} "
        f"| {row.turns} |"
        for row in times
    ]
    failures = [result for result in results if not result.right]
    lines += ["", f"## Failures ({len(failures)})", ""]
    if failures:
        lines += ["| asked | needed | heard | caption |", "|---|---|---|---|"]
    lines += [
        f"| {result.text} | {'; '.join(result.needed)} | {result.problem or result.heard} | {result.caption} |"
        for result in failures
    ]
    return "\n".join(lines) + "\n"
