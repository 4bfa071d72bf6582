"""Runs the simulated system under a load, and says what callers met with."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from loadtest.sim.call import SimulatedCall
from loadtest.sim.costs import Outside
from loadtest.sim.profile import Profile
from loadtest.sim.report import Steps
from loadtest.sim.system import System

WARM_S = 20.0  # calls begin over this time, and what is measured begins after it
SLICE_S = 10.0


@dataclass(frozen=True)
class Outcome:
    """What callers met with at a load.

    Attributes:
        calls: at once.
        turns: answers that were measured.
        p50_s, at_percentile_s: first audio; infinite where too few were ever answered.
        busy: by kind of machine, share of its processors' time.
        stages: processor seconds a second, by stage, over all machines.
        gaps: answers that ran dry, a turn.
        failed: answers that the language model had no memory for.
    """

    calls: int
    turns: int
    p50_s: float
    at_percentile_s: float
    busy: dict[str, float]
    stages: dict[str, float]
    gaps: float
    failed: int


def percentile(values: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile; infinite for none."""
    ordered = sorted(values)
    return ordered[max(0, -int(-len(ordered) * percent // 100) - 1)] if ordered else float("inf")


def simulate(
    steps: Steps,
    profile: Profile,
    replicas: dict[str, int],
    calls: int,
    *,
    seed: int,
    turns: int,
    outside: Outside,
    longest_s: float = 1800.0,
) -> Outcome:
    """So many calls at once, until enough turns were measured, or a time is over.

    Args:
        replicas: by kind of machine.
        seed: same seed, same outcome.
        turns: to measure.
        longest_s: virtual time; a system that cannot keep up never measures enough.
    """
    system = System(steps, profile, replicas, seed, outside)
    clock, chance = system.clock, Random(seed + 1)
    begun = 0

    def begin() -> None:
        nonlocal begun
        begun += 1
        SimulatedCall(system, f"call-{begun}", over=lambda: clock.after(profile.talk.gap_s, begin))

    for number in range(calls):
        clock.at(WARM_S * (number + chance.random()) / calls, begin)
    clock.run(WARM_S)
    system.start_counting()
    measured: list[float] = []
    while len(measured) < turns and clock.now < longest_s:
        clock.run(clock.now + SLICE_S)
        measured = [first for ended, first in system.measured.first_audio_s if ended > WARM_S]
    return Outcome(
        calls=calls,
        turns=len(measured),
        p50_s=percentile(measured, 50),
        at_percentile_s=percentile(measured, profile.target.percentile),
        busy={machine.name: system.busy(machine.name) for machine in profile.machines},
        stages=system.stage_s(),
        gaps=system.measured.gaps / max(1, len(system.measured.first_audio_s)),
        failed=sum(lm.failed for lm in system.lms),
    )
