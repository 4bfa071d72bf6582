"""From a scenario and a seed to calls: who calls when, says what, and ends how. Nothing here knows time or network."""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

from loadtest.scenario.model import (
    AtOnce,
    Burst,
    Command,
    Constant,
    Drop,
    Kill,
    Leg,
    Length,
    Poisson,
    Ramp,
    Scenario,
)
from loadtest.scenario.questions import Question
from loadtest.sim.profile import Spread


@dataclass(frozen=True)
class PlannedTurn:
    """One question.

    Attributes:
        question: its name.
        pause_s: from the bot's last sound to the caller's first.
        barge_in_s: instead, from the first sound of the answer before it.
        hold_s: for which the bot is put on hold before.
        keys: that are pressed before.
    """

    question: str
    pause_s: float
    barge_in_s: float | None = None
    hold_s: float = 0.0
    keys: str = ""


@dataclass(frozen=True)
class PlannedCall:
    """One call.

    Attributes:
        number: from 0.
        persona: its name, and `dialled` its number.
        hang_up_s: from the call's beginning, whatever goes on then; None: after the last answer.
        vanishes: the call ends without a goodbye.
    """

    number: int
    leg: Leg
    persona: str
    dialled: str
    turns: tuple[PlannedTurn, ...]
    hang_up_s: float | None = None
    vanishes: bool = False


@dataclass(frozen=True)
class Slot:
    """A caller who calls again and again.

    Attributes:
        first, step: numbers of the calls: first, first + step, ...
        at_s, until_s: of the run; no call begins later.
        gap_s: from the end of a call to the next.
    """

    first: int
    step: int
    at_s: float
    until_s: float
    gap_s: Length


@dataclass(frozen=True)
class Moment:
    """A fault, at a time of the run."""

    at_s: float
    fault: Kill | Drop | Command


@dataclass(frozen=True)
class Plan:
    """What a run does.

    Attributes:
        arrivals: times of calls that come one by one, seconds, with their numbers.
        slots: callers who call again and again.
        faults: in their order.
    """

    arrivals: tuple[tuple[float, int], ...]
    slots: tuple[Slot, ...]
    faults: tuple[Moment, ...]
    seconds: float


def plan(scenario: Scenario, seed: int) -> Plan:
    """The same for the same scenario and seed."""
    arrivals: list[tuple[float, int]] = []
    slots: list[Slot] = []
    numbers = 0
    begin = 0.0
    for index, phase in enumerate(scenario.phases):
        chance = Random(f"{seed}:phase:{index}")
        if isinstance(phase, AtOnce):
            room = phase.calls
            if scenario.calls is not None:
                room = min(room, scenario.calls - numbers)
            for place in range(room):
                at = begin + min(phase.spread_s, phase.for_s) * place / phase.calls
                slots.append(Slot(numbers + place, phase.calls, at, begin + phase.for_s, phase.gap_s))
            # numbers after these belong to their later calls; a later phase begins far beyond
            numbers += phase.calls * (1 + math.ceil(phase.for_s))
        else:
            for at in _times(phase, chance):
                arrivals.append((begin + at, numbers))
                numbers += 1
        begin += phase.for_s
    if scenario.calls is not None:
        arrivals = arrivals[: scenario.calls]
    return Plan(tuple(arrivals), tuple(slots), tuple(_faults(scenario)), scenario.seconds)


def _times(phase: Constant | Poisson | Ramp | Burst, chance: Random) -> Iterator[float]:
    """Of arrivals, seconds from the phase's beginning."""
    match phase:
        case Constant():
            count = math.floor(phase.for_s * phase.per_minute / 60 + 1e-9)
            yield from (60 * number / phase.per_minute for number in range(count))
        case Burst():
            count = math.ceil(phase.for_s / phase.every_s - 1e-9)
            yield from (phase.every_s * round_ for round_ in range(count) for _ in range(phase.calls))
        case Poisson():
            yield from _by_chance(phase.per_minute, phase.per_minute, phase.for_s, chance)
        case Ramp():
            yield from _by_chance(*phase.per_minute, phase.for_s, chance)


def _by_chance(first: float, last: float, seconds: float, chance: Random) -> Iterator[float]:
    """A Poisson process whose rate goes from one value a minute to another, by thinning (Lewis and Shedler, 1979)."""
    most = max(first, last) / 60
    at = 0.0
    while (at := at + chance.expovariate(most)) < seconds:
        rate = (first + (last - first) * at / seconds) / 60
        if chance.random() < rate / most:
            yield at


def _faults(scenario: Scenario) -> list[Moment]:
    found = []
    for fault in scenario.faults:
        if fault.at_s is not None:
            found.append(Moment(fault.at_s, fault))
        else:
            every_s = fault.every_s
            assert every_s is not None
            times = itertools.takewhile(lambda at: at < scenario.seconds, itertools.count(every_s, every_s))
            found += [Moment(at, fault) for at in times]
    return sorted(found, key=lambda moment: moment.at_s)


def planned_call(scenario: Scenario, questions: Sequence[Question], seed: int, number: int) -> PlannedCall:
    """A call by its number; the same for the same scenario, questions and seed, whatever the calls before it did.

    Args:
        questions: that may be asked, those that end a call among them; at least one does not.
    """
    chance = Random(f"{seed}:call:{number}")
    legs = [leg for leg, weight in scenario.legs.items() if weight]
    leg = chance.choices(legs, [scenario.legs[leg] for leg in legs])[0]
    persona = chance.choices(scenario.personas, [persona.weight for persona in scenario.personas])[0]
    talk = scenario.talk
    count = talk.turns if isinstance(talk.turns, int) else chance.randint(*sorted(talk.turns))
    asked = [question.name for question in questions if not question.ends]
    last = [question.name for question in questions if question.ends]
    turns = [_turn(scenario, chance.choice(asked), place, leg, chance) for place in range(count)]
    by_chance = chance.random() < talk.hang_up.at_random
    if not by_chance and last and chance.random() < talk.hang_up.goodbye:
        turns.append(PlannedTurn(chance.choice(last), drawn(talk.pause_s, chance)))
    hang_up_s = chance.uniform(0.0, talk.hang_up.within_s) if by_chance else None
    vanishes = by_chance and chance.random() < talk.hang_up.vanish
    return PlannedCall(number, leg, persona.name, persona.number, tuple(turns), hang_up_s, vanishes)


def _turn(scenario: Scenario, question: str, place: int, leg: Leg, chance: Random) -> PlannedTurn:
    talk = scenario.talk
    pause_s = drawn(talk.pause_s, chance)
    interrupts, holds, presses = (chance.random() < part.share for part in (talk.barge_in, talk.hold, talk.keys))
    barge_in_s, hold_s = drawn(talk.barge_in.after_s, chance), drawn(talk.hold.seconds, chance)
    if interrupts and place > 0:  # the greeting is no answer
        return PlannedTurn(question, pause_s, barge_in_s=barge_in_s)
    keys = talk.keys.digits if presses and leg == "sip" else ""
    return PlannedTurn(question, pause_s, hold_s=hold_s if holds else 0.0, keys=keys)


def drawn(length: Length, chance: Random) -> float:
    """A length, seconds; `Spread` is log-normal."""
    if isinstance(length, Spread):
        return min(3600.0, length.median_s * math.exp(chance.gauss(0.0, length.sigma)))
    if isinstance(length, tuple):
        return chance.uniform(*sorted(length))
    return length
