"""How many machines it takes: searches with the simulated system."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from loadtest.sim.costs import Outside
from loadtest.sim.profile import Profile, Spread
from loadtest.sim.report import Steps
from loadtest.sim.run import Outcome, simulate

MOST_ROUNDS = 40
FULL = 0.7  # of a machine's processors: where the search begins
SHARES = (0.25, 0.5, 0.75, 1.0, 1.15, 1.3)
BEYOND = 0.15  # of the largest number of calls that holds, shown on the curve too

Tell = Callable[[Outcome], None]


class NoPlanError(Exception):
    """No number of machines keeps the target; the message says what stands in the way."""


@dataclass(frozen=True)
class Plan:
    """What it takes.

    Attributes:
        calls: at once, which it is made for.
        replicas: machines, by kind.
        curve: first audio against calls: of one machine where one runs every stage, else of all of them.
        chosen: the point of `curve` that the plan stands on.
        warnings: what was not covered by measurements.
    """

    calls: int
    replicas: dict[str, int]
    curve: tuple[Outcome, ...]
    chosen: Outcome
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Search:
    """What every simulation of a plan has in common."""

    steps: Steps
    profile: Profile
    seed: int
    turns: int
    outside: Outside
    tell: Tell

    def outcome(self, replicas: dict[str, int], calls: int) -> Outcome:
        """A load on these machines."""
        found = simulate(
            self.steps,
            self.profile,
            replicas,
            calls,
            seed=self.seed,
            turns=max(self.turns, 3 * calls),
            outside=self.outside,
            longest_s=600.0,
        )
        self.tell(found)
        return found

    def holds(self, outcome: Outcome) -> bool:
        """Whether callers get what the profile promises."""
        return not outcome.failed and outcome.at_percentile_s <= self.profile.target.first_audio_s


def plan(steps: Steps, profile: Profile, *, seed: int, turns: int, tell: Tell = lambda outcome: None) -> Plan:
    """Finds the machines for a profile.

    Args:
        seed: same seed, same plan.
        turns: answers to simulate at each load.
        tell: takes each outcome as it comes.

    Raises:
        NoPlanError: the target is missed even by a single call, or whatever is added.
    """
    outside = Outside()
    search = Search(steps, profile, seed, turns, outside, tell)
    calls = calls_at_once(steps, profile)
    found = _alike(search, calls) if len(profile.machines) == 1 else _split(search, calls)
    return Plan(calls, found[0], found[1], found[2], tuple(outside.warnings))


def calls_at_once(steps: Steps, profile: Profile) -> int:
    """What the profile's load comes to; with arrivals, so many lines that no more than the given share is blocked."""
    load = profile.load
    if load.calls_at_once is not None:
        return load.calls_at_once
    assert load.arrivals_per_hour is not None
    return lines(load.arrivals_per_hour / 3600 * call_s(steps, profile), load.blocked)


def call_s(steps: Steps, profile: Profile) -> float:
    """A call's mean length, seconds."""
    talk, rate = profile.talk, steps.decoder.token_rate
    if isinstance(talk.question, Spread) and talk.answer is not None:
        turn = _mean(talk.question) + _mean(talk.answer)
    else:
        questions = steps.talk.questions
        answers = [speech for question in questions for _, speech in question.answers]
        turn = sum(question.seconds for question in questions) / len(questions) + sum(answers) / len(answers) / rate
    turn += sum(talk.pause_s) / 2 + profile.target.first_audio_s
    return steps.talk.greeting[1] / rate + sum(talk.pause_s) / 2 + talk.turns * turn


def lines(offered: float, blocked: float) -> int:
    """The least number of lines that refuse at most a share of calls (Erlang B).

    Args:
        offered: calls a second times their length, in erlang.
    """
    share, count = 1.0, 0
    while share > blocked:
        count += 1
        share = offered * share / (count + offered * share)
    return count


def talk_share(steps: Steps, profile: Profile) -> float:
    """The share of a call in which the caller speaks."""
    talk = profile.talk
    if isinstance(talk.question, Spread):
        question = _mean(talk.question)
    else:
        question = sum(item.seconds for item in steps.talk.questions) / len(steps.talk.questions)
    return talk.turns * question / call_s(steps, profile)


def _mean(spread: Spread) -> float:
    return spread.median_s * math.exp(spread.sigma**2 / 2)


Found = tuple[dict[str, int], tuple[Outcome, ...], Outcome]


def _alike(search: Search, calls: int) -> Found:
    """One kind of machine runs everything: how many calls does one carry?"""
    name = search.profile.machines[0].name
    seen: dict[int, Outcome] = {}

    def holds(count: int) -> bool:
        if count not in seen:
            seen[count] = search.outcome({name: 1}, count)
        return search.holds(seen[count])

    if not holds(1):
        raise NoPlanError(_missed(search, seen[1]))
    good, bad = 1, 2
    while holds(bad):
        good, bad = bad, 2 * bad
    while bad - good > 1:
        middle = (good + bad) // 2
        if holds(middle):
            good = middle
        else:
            bad = middle
    holds(math.ceil(good * (1 + BEYOND)))
    curve = tuple(seen[count] for count in sorted(seen))
    return {name: math.ceil(calls / good)}, curve, seen[good]


def _split(search: Search, calls: int) -> Found:
    """Stages on machines of their own: adds the kind that is busiest until the target holds, then takes back."""
    machines = search.profile.machines
    few = max(1, min(4, calls))
    light = search.outcome({machine.name: 1 for machine in machines}, few)
    if not search.holds(search.outcome({machine.name: 1 for machine in machines}, 1)):
        raise NoPlanError(_missed(search, light))
    replicas = {machine.name: max(1, math.ceil(light.busy[machine.name] / few * calls / FULL)) for machine in machines}
    found = search.outcome(replicas, calls)
    for _ in range(MOST_ROUNDS):
        if search.holds(found):
            break
        busiest = max(found.busy, key=lambda name: found.busy[name])
        replicas[busiest] += 1
        found = search.outcome(replicas, calls)
    else:
        raise NoPlanError(_missed(search, found))
    for name in list(replicas):
        while replicas[name] > 1:
            fewer = {**replicas, name: replicas[name] - 1}
            outcome = search.outcome(fewer, calls)
            if not search.holds(outcome):
                break
            replicas, found = fewer, outcome
    counts = sorted({max(1, round(share * calls)) for share in SHARES} - {calls})
    curve = [search.outcome(replicas, count) for count in counts] + [found]
    return replicas, tuple(sorted(curve, key=lambda outcome: outcome.calls)), found


def _missed(search: Search, outcome: Outcome) -> str:
    target = search.profile.target
    return (
        f"with {outcome.calls} call{'s' * (outcome.calls > 1)} {target.percentile:g} % of answers begin within "
        f"{outcome.at_percentile_s:.2f} s, the target is {target.first_audio_s:g} s: "
        "faster models or another target are needed"
    )
