"""Does the planner tell the truth? Measures steps, predicts, calls the same system, and compares."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from loadtest.callers import Level
from loadtest.planning import Plan
from loadtest.sim.profile import Profile
from loadtest.sim.run import Outcome

WITHIN = 0.25


@dataclass(frozen=True)
class Compared:
    """A prediction beside what was measured with as many calls."""

    predicted: Outcome
    measured: Level

    @property
    def p50_ratio(self) -> float:
        """Predicted to measured; NaN when nothing was measured."""
        return _ratio(self.predicted.p50_s, self.measured.p50_s)

    @property
    def p95_ratio(self) -> float:
        """Predicted to measured; NaN when nothing was measured."""
        return _ratio(self.predicted.at_percentile_s, self.measured.at(95))

    @property
    def within(self) -> bool:
        """Both within a quarter."""
        return all(abs(ratio - 1) <= WITHIN for ratio in (self.p50_ratio, self.p95_ratio))


def _ratio(predicted: float, measured: float) -> float:
    return predicted / measured if measured and math.isfinite(measured) and math.isfinite(predicted) else math.nan


def planned(found: Plan, profile: Profile) -> list[str]:
    """What one machine carries, as the page shows it."""
    target, chosen = profile.target, found.chosen
    percent = f"p{target.percentile:g}"
    lines = [
        "## What one such machine carries",
        "",
        f"`python -m loadtest plan` with the same step times, callers elsewhere: {chosen.calls} calls at once, when "
        f"{target.percentile:g} % of answers must begin within {target.first_audio_s:g} s. So {found.calls} calls take "
        f"{sum(found.replicas.values())} such machine{'s' * (sum(found.replicas.values()) > 1)}.",
        "",
        f"| calls at once | median | {percent} | cores busy | answers that run dry |",
        "|---|---|---|---|---|",
    ]
    for item in found.curve:
        at = "never" if math.isinf(item.at_percentile_s) else f"{item.at_percentile_s:.2f} s"
        calls = f"**{item.calls}**" if item is chosen else str(item.calls)
        busy = max(item.busy.values())
        lines.append(f"| {calls} | {item.p50_s:.2f} s | {at} | {busy:.0%} | {item.gaps:.0%} |")
    lines += ["", "| stage | processor time of a second of a call |", "|---|---|"]
    lines += [f"| {name} | {1000 * value / chosen.calls:.1f} ms |" for name, value in chosen.stages.items()]
    return [*lines, "", "![p95 first audio against calls, predicted](plan-nano.png)"]


def page(
    rows: Sequence[Compared],
    circumstances: str,
    run: str,
    seconds: float,
    warnings: Sequence[str],
    plan: Sequence[str] = (),
) -> str:
    """The page for docs/benchmarks."""
    lines = [
        "# The planner's prediction, and what callers measured",
        "",
        f"Steps measured: {circumstances}. Called: {run}. The callers run on the same machine and are part of the "
        "prediction. First audio: from the last sound of a question to the first sound of the answer, at the caller's "
        f"ear. Made in {seconds:.0f} s by `python -m loadtest check`, which measures steps, predicts, then calls: no "
        "value of the calls goes into the prediction.",
        "",
        "| calls at once | median: predicted | measured | ratio | p95: predicted | measured | ratio | measured answers "
        "| refused, unanswered, overlapped | cores busy, predicted | within 25 % |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        predicted, measured = row.predicted, row.measured
        lines.append(
            f"| {measured.calls} | {predicted.p50_s:.3f} s | {measured.p50_s:.3f} s | {row.p50_ratio:.2f} "
            f"| {predicted.at_percentile_s:.3f} s | {measured.at(95):.3f} s | {row.p95_ratio:.2f} "
            f"| {len(measured.first_audio_s)} | {measured.refused}, {measured.unanswered}, {measured.overlapped} "
            f"| {max(predicted.busy.values()):.0%} | {'yes' if row.within else 'no'} |"
        )
    lines += ["", "The p95 of few answers is nearly their longest. Where a machine is more than about nine tenths "]
    lines[-1] += "busy, the waits depend on details that no model holds; plan below that."
    lines += ["", "![First audio against calls](planner.png)"]
    if warnings:
        lines += ["", "Beyond what was measured:", "", *[f"- {warning}" for warning in warnings]]
    if plan:
        lines += ["", *plan]
    return "\n".join(lines) + "\n"
