"""What changed between two runs, and what of it is more than chance.

Calls, not answers, are what is drawn anew: answers of one call are alike (Efron and Tibshirani, An Introduction to the
Bootstrap, 1993, chapter 8). A change counts when the interval that holds 95 % of the drawn differences does not hold 0.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from loadtest.results.record import CallFigures, Run
from loadtest.results.summary import Cost, Figure, costs, figures
from loadtest.sim.run import percentile

ROUNDS = 300
FEWEST = 5  # calls of a run, below which nothing is told from chance
COST_NOISE = 0.1  # of a stage's processor time: what two runs of the same differ by


@dataclass(frozen=True)
class Change:
    """One figure in both runs.

    Attributes:
        low, high: of the difference `after - before`, 95 %; NaN: not known.
        verdict: `better`, `worse`, or empty: within chance.
    """

    before: Figure
    after: Figure
    low: float
    high: float
    verdict: str

    @property
    def difference(self) -> float:
        """NaN where one of both was not measured."""
        return self.after.value - self.before.value


@dataclass(frozen=True)
class CostChange:
    """A stage's processor time a second of a call in both runs."""

    before: Cost
    after: Cost
    verdict: str


def compare(before: Run, after: Run, seed: int = 1, rounds: int = ROUNDS) -> list[Change]:
    """Each figure; those that neither run has are left out."""
    chance = Random(seed)
    drawn = [
        (_values(before, chance), _values(after, chance))
        for _ in range(rounds if min(len(before.calls), len(after.calls)) >= FEWEST else 0)
    ]
    changes = []
    for index, (one, other) in enumerate(zip(figures(before), figures(after), strict=True)):
        if not one.of and not other.of:
            continue
        differences = [b[index] - a[index] for a, b in drawn]
        differences = [value for value in differences if not math.isnan(value)]
        low, high = (percentile(differences, at) if differences else math.nan for at in (2.5, 97.5))
        changes.append(Change(one, other, low, high, _verdict(low, high, one.better)))
    return changes


def _values(run: Run, chance: Random) -> list[float]:
    """Figures of as many calls, drawn with replacement."""
    calls: Sequence[CallFigures] = chance.choices(run.calls, k=len(run.calls))
    return [figure.value for figure in figures(run, calls)]


def _verdict(low: float, high: float, better: int) -> str:
    if math.isnan(low) or low <= 0 <= high or not better:
        return ""
    return "better" if (low > 0) == (better > 0) else "worse"


def compare_costs(before: Run, after: Run) -> list[CostChange]:
    """Stages that both runs know, the dearest first; one run has no spread, so a tenth counts as chance."""
    known = {cost.stage: cost for cost in costs(before)}
    changes = []
    for cost in costs(after):
        if (old := known.get(cost.stage)) is None or math.isnan(old.per_call) or math.isnan(cost.per_call):
            continue
        ratio = cost.per_call / old.per_call if old.per_call else 1.0
        verdict = "worse" if ratio > 1 + COST_NOISE else "better" if ratio < 1 - COST_NOISE else ""
        changes.append(CostChange(old, cost, verdict))
    return changes


def warnings(before: Run, after: Run) -> list[str]:
    """Why the runs may not be comparable."""
    found = []
    if before.scenario.model_dump(exclude={"targets"}) != after.scenario.model_dump(exclude={"targets"}):
        found.append("the scenarios differ")
    if min(len(before.calls), len(after.calls)) < FEWEST:
        found.append(f"fewer than {FEWEST} calls in a run: nothing can be told from chance")
    return found
