from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loadtest.scenario.model import Drop, Scenario
from loadtest.scenario.plan import drawn, plan, planned_call
from loadtest.scenario.questions import Question
from loadtest.sim.profile import Spread

# a busy machine is no failure
CALM = settings(
    max_examples=40, deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
ASKED = [Question(name=name, path=Path(name), ends=name == "goodbye") for name in ("goodbye", "hours", "price")]

lengths = st.one_of(
    st.floats(0, 10), st.tuples(st.floats(0, 10), st.floats(0, 10)), st.builds(Spread, median_s=st.floats(0.1, 9))
)
shares = st.floats(0, 1)
phases = st.one_of(
    st.builds(
        lambda rate, s: {"kind": "constant", "per_minute": rate, "for_s": s}, st.floats(1, 100), st.floats(1, 60)
    ),
    st.builds(lambda rate, s: {"kind": "poisson", "per_minute": rate, "for_s": s}, st.floats(1, 100), st.floats(1, 60)),
    st.builds(
        lambda first, last, s: {"kind": "ramp", "per_minute": (first, last), "for_s": s},
        st.floats(0, 100),
        st.floats(1, 100),
        st.floats(1, 60),
    ),
    st.builds(
        lambda calls, every, s: {"kind": "burst", "calls": calls, "every_s": every, "for_s": s},
        st.integers(1, 9),
        st.floats(1, 30),
        st.floats(1, 60),
    ),
    st.builds(lambda calls, s: {"kind": "at_once", "calls": calls, "for_s": s}, st.integers(1, 9), st.floats(1, 60)),
)
scenarios = st.builds(
    lambda some, calls, legs, talk: Scenario.model_validate(
        {"name": "drawn", "phases": some, "calls": calls, "legs": legs, "talk": talk}
    ),
    st.lists(phases, min_size=1, max_size=3),
    st.one_of(st.none(), st.integers(1, 50)),
    st.fixed_dictionaries({"sip": st.floats(0.1, 5), "webrtc": st.floats(0, 5)}),
    st.fixed_dictionaries(
        {
            "turns": st.one_of(st.integers(0, 5), st.tuples(st.integers(0, 3), st.integers(3, 5))),
            "pause_s": lengths,
            "barge_in": st.fixed_dictionaries({"share": shares, "after_s": lengths}),
            "hold": st.fixed_dictionaries({"share": shares, "seconds": lengths}),
            "keys": st.fixed_dictionaries({"share": shares}),
            "hang_up": st.fixed_dictionaries({"at_random": shares, "vanish": shares, "goodbye": shares}),
        }
    ),
)


@CALM
@given(scenarios, st.integers(0, 9))
def test_the_same_seed_gives_the_same_plan(scenario: Scenario, seed: int) -> None:
    made = plan(scenario, seed)
    assert made == plan(scenario, seed)
    numbers = [number for _, number in made.arrivals] + [slot.first for slot in made.slots]
    assert len(set(numbers)) == len(numbers)
    assert all(0 <= at < scenario.seconds for at, _ in made.arrivals)
    assert [at for at, _ in made.arrivals] == sorted(at for at, _ in made.arrivals)
    if scenario.calls is not None:
        assert len(made.arrivals) <= scenario.calls
    for slot in made.slots:
        assert 0 <= slot.at_s <= slot.until_s <= scenario.seconds + 1e-9


@CALM
@given(scenarios, st.integers(0, 9), st.integers(0, 10_000))
def test_a_call_is_what_its_number_says(scenario: Scenario, seed: int, number: int) -> None:
    call = planned_call(scenario, ASKED, seed, number)
    assert call == planned_call(scenario, ASKED, seed, number)
    assert scenario.legs[call.leg] > 0
    turns = scenario.talk.turns
    most = turns if isinstance(turns, int) else max(turns)
    assert len(call.turns) <= most + 1
    for place, turn in enumerate(call.turns):
        assert turn.pause_s >= 0
        assert (turn.question == "goodbye") <= (place == len(call.turns) - 1)
        assert place or turn.barge_in_s is None  # the greeting is no answer
        assert not turn.keys or call.leg == "sip"
    if call.hang_up_s is not None:
        assert 0 <= call.hang_up_s <= scenario.talk.hang_up.within_s
    assert call.hang_up_s is not None or not call.vanishes


def of(**more: Any) -> Scenario:
    return Scenario.model_validate({"name": "one", "phases": [{"kind": "at_once", "calls": 3, "for_s": 60}], **more})


@pytest.mark.parametrize(
    ("phase", "times"),
    [
        ({"kind": "constant", "per_minute": 60, "for_s": 3}, [0, 1, 2]),
        ({"kind": "burst", "calls": 2, "every_s": 5, "for_s": 10}, [0, 0, 5, 5]),
    ],
)
def test_arrivals_that_chance_does_not_touch(phase: dict[str, Any], times: list[float]) -> None:
    assert [at for at, _ in plan(of(phases=[phase]), 1).arrivals] == pytest.approx(times)


@pytest.mark.parametrize(
    ("phase", "calls", "middle"),
    [
        ({"kind": "poisson", "per_minute": 60, "for_s": 4000}, 4000, 2000),
        ({"kind": "ramp", "per_minute": (0, 120), "for_s": 4000}, 4000, 4000 * 2 / 3),
        ({"kind": "ramp", "per_minute": (120, 0), "for_s": 4000}, 4000, 4000 / 3),
    ],
)
def test_arrivals_by_chance_have_their_rate(phase: dict[str, Any], calls: int, middle: float) -> None:
    times = [at for at, _ in plan(of(phases=[phase]), 1).arrivals]
    assert abs(len(times) - calls) < 5 * calls**0.5
    assert sum(times) / len(times) == pytest.approx(middle, rel=0.05)


def test_phases_follow_one_another() -> None:
    slow = {"kind": "constant", "per_minute": 6, "for_s": 20}
    made = plan(of(phases=[slow, {"kind": "at_once", "calls": 2, "for_s": 30, "spread_s": 4}, slow]), 1)
    assert [at for at, _ in made.arrivals] == pytest.approx([0, 10, 50, 60])
    assert [(slot.at_s, slot.until_s) for slot in made.slots] == [(20, 50), (22, 50)]
    assert made.seconds == 70


def test_enough_is_enough() -> None:
    assert len(plan(of(calls=2), 1).slots) == 2


def test_faults_come_once_or_again() -> None:
    faults = [{"kind": "drop", "share": 0.1, "for_s": 1, "every_s": 25}, {"kind": "command", "run": ["x"], "at_s": 30}]
    made = plan(of(faults=faults), 1)
    assert [moment.at_s for moment in made.faults] == [25, 30, 50]
    assert isinstance(made.faults[0].fault, Drop)


def test_shares_are_kept() -> None:
    talk = {
        "turns": 4,
        "barge_in": {"share": 0.5},
        "hang_up": {"at_random": 0.25, "vanish": 0.5},
        "keys": {"share": 1, "digits": "12"},
    }
    scenario = of(legs={"sip": 3, "webrtc": 1}, talk=talk, personas=[{"number": "100", "weight": 3}, {"name": "night"}])
    calls = [planned_call(scenario, ASKED, 1, number) for number in range(2000)]
    assert sum(call.leg == "sip" for call in calls) / 2000 == pytest.approx(0.75, abs=0.05)
    assert sum(call.dialled == "100" for call in calls) / 2000 == pytest.approx(0.75, abs=0.05)
    assert sum(call.hang_up_s is not None for call in calls) / 2000 == pytest.approx(0.25, abs=0.05)
    assert sum(call.vanishes for call in calls) / 2000 == pytest.approx(0.125, abs=0.04)
    later = [turn for call in calls for turn in call.turns[1:]]
    assert sum(turn.barge_in_s is not None for turn in later) / len(later) == pytest.approx(0.5, abs=0.05)


def test_lengths() -> None:
    chance = Random(1)
    assert drawn(2.0, chance) == 2.0
    assert all(1 <= drawn((3.0, 1.0), chance) <= 3 for _ in range(100))
    many = sorted(drawn(Spread(median_s=4, sigma=0.5), chance) for _ in range(2001))
    assert many[1000] == pytest.approx(4, rel=0.1)
