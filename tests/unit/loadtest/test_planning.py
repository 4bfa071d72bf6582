import math
from random import Random
from typing import Any

import pytest

from loadtest.planning import NoPlanError, call_s, calls_at_once, lines, plan, talk_share
from loadtest.sim.costs import Outside
from loadtest.sim.profile import Profile, Spread
from loadtest.sim.profile import Talk as TalkProfile
from loadtest.sim.report import Moment, Steps
from loadtest.sim.run import Outcome, percentile, simulate
from loadtest.sim.talk import draw, moments_after
from services.agent.turns import TurnSettings
from tests.unit.loadtest.reports import profile, steps

STEPS = Steps.model_validate(steps())
GPUS = [
    {"name": "agents", "cores": 4, "runs": ["agent"]},
    {"name": "tokenizer", "gpus": 1, "runs": ["tokenizer"]},
    {"name": "lm", "gpus": 1, "runs": ["lm"]},
    {"name": "decoder", "gpus": 1, "runs": ["decoder"]},
]


def wanted(**changes: Any) -> Profile:
    return Profile.model_validate(profile(**changes))


def outcome(calls: int, seed: int = 1, given: Steps = STEPS, **changes: Any) -> Outcome:
    return simulate(given, wanted(**changes), {"node": 1}, calls, seed=seed, turns=25, outside=Outside())


def test_one_call_alone_takes_what_its_parts_take() -> None:
    found = outcome(1)
    # pause after 0.2 s, a step of the tokenizer, prompts, 13 text and 10 speech tokens, a block, and the line
    least = 0.2 + 0.003 + 23 * 0.0045 + 0.01 + 0.05
    assert least < found.p50_s < least + 0.06
    assert found.gaps == 0


def test_nothing_is_heard_before_the_turn_is_decided() -> None:
    record = steps()
    record["talk"]["questions"][0]["moments"] = [
        {"at_s": 0.2, "kind": "paused"},
        {"at_s": 0.9, "kind": "ask", "complete": True},
    ]
    found = outcome(1, given=Steps.model_validate(record))
    assert 0.9 + 0.04 + 0.05 <= found.p50_s < 1.02


def test_an_end_that_no_model_sees_is_an_end_by_silence() -> None:
    record = steps()
    record["talk"]["questions"][0]["moments"] = [
        {"at_s": 0.2, "kind": "paused"},
        {"at_s": 0.3, "kind": "ask", "complete": False},
    ]
    found = outcome(1, given=Steps.model_validate(record))
    longest = TurnSettings().max_silence_s
    assert longest + 0.05 <= found.p50_s < longest + 0.1


def test_a_pause_within_a_question_costs_work_and_no_answer() -> None:
    record = steps()
    record["talk"]["questions"][0]["moments"][:0] = [
        {"at_s": -0.8, "kind": "paused"},
        {"at_s": -0.5, "kind": "resumed"},
    ]
    plain, paused = outcome(1), outcome(1, given=Steps.model_validate(record))
    assert paused.turns == pytest.approx(plain.turns, rel=0.2)
    assert paused.stages["lm"] > 1.05 * plain.stages["lm"]
    assert paused.p50_s == pytest.approx(plain.p50_s, abs=0.03)


def test_more_callers_wait_longer_and_use_more() -> None:
    few, many = outcome(2), outcome(20)
    assert many.p50_s > few.p50_s
    assert many.busy["node"] > 4 * few.busy["node"]
    assert many.stages["agent"] / 20 == pytest.approx(few.stages["agent"] / 2, rel=0.2)


@pytest.mark.parametrize("calls", [1, 4])
def test_what_any_call_costs_is_spent_once_however_many_there_are(calls: int) -> None:
    record = steps()
    record["legs"]["sip"]["base_s"] = 0.2
    found = outcome(calls, given=Steps.model_validate(record))
    assert found.stages["agent"] - outcome(calls).stages["agent"] == pytest.approx(0.2, abs=0.03)


def test_an_agent_that_is_far_behind_still_ends_each_answer_once() -> None:
    record = steps()
    record["legs"]["sip"] |= {"token_s": 0.02, "listen_s": 0.15, "speak_s": 0.1}
    found = outcome(8, given=Steps.model_validate(record))
    assert found.busy["node"] > 0.5
    assert all(seconds >= 0 for seconds in found.stages.values())
    # a turn takes more than its question, its shortest answer and the shortest pause, whatever else happens
    assert found.p50_s > outcome(8).p50_s


def test_callers_on_the_same_machine_count() -> None:
    assert outcome(8, callers_here=True).busy["node"] > outcome(8).busy["node"] + 0.02


def test_the_same_seed_gives_the_same() -> None:
    assert outcome(5) == outcome(5)
    assert outcome(5) != outcome(5, seed=2)


def test_one_kind_of_machine_is_counted_by_what_one_carries() -> None:
    told: list[Outcome] = []
    few = wanted(load={"calls_at_once": 50}, target={"first_audio_s": 0.5})  # a short search
    found = plan(STEPS, few, seed=1, turns=30, tell=told.append)
    carried = found.chosen.calls
    assert found.replicas == {"node": math.ceil(50 / carried)}
    assert found.chosen.at_percentile_s <= 0.5
    assert told
    beyond = [item for item in found.curve if item.calls > carried]
    assert beyond[0].at_percentile_s > 0.5


def test_stages_on_machines_of_their_own_grow_apart() -> None:
    slow = steps()
    slow["decoder"]["first"]["seconds"] = [[0.2, 0.8], [0.8, 3.2]]
    found = plan(Steps.model_validate(slow), wanted(machines=GPUS, load={"calls_at_once": 12}), seed=1, turns=30)
    assert found.replicas["decoder"] > 1
    assert found.replicas["tokenizer"] == 1
    assert found.chosen.calls == 12
    assert found.chosen.at_percentile_s <= 1.0


def test_a_target_that_not_even_one_call_meets() -> None:
    with pytest.raises(NoPlanError, match=r"the target is 0\.1 s"):
        plan(STEPS, wanted(target={"first_audio_s": 0.1}), seed=1, turns=20)


def test_a_memory_that_is_too_small_is_no_plan() -> None:
    record = steps()
    record["lm"]["kv_tokens"] = 96
    with pytest.raises(NoPlanError):
        plan(Steps.model_validate(record), wanted(), seed=1, turns=20)


@pytest.mark.parametrize(
    ("offered", "blocked", "expected"),
    [(1.0, 0.5, 1), (1.0, 0.2, 2), (10.0, 0.01, 18), (100.0, 0.01, 117)],  # Erlang B tables
)
def test_lines(offered: float, blocked: float, expected: int) -> None:
    assert lines(offered, blocked) == expected


def test_arrivals_become_calls_at_once() -> None:
    by_arrivals = wanted(load={"arrivals_per_hour": 360, "blocked": 0.01})
    assert calls_at_once(STEPS, by_arrivals) == lines(0.1 * call_s(STEPS, by_arrivals), 0.01)
    assert calls_at_once(STEPS, wanted()) == 4


def test_talk_share() -> None:
    half = TalkProfile(question=Spread(median_s=4), answer=Spread(median_s=2), pause_s=(0.5, 0.5), turns=100)
    share = talk_share(STEPS, wanted(talk=half.model_dump()))
    assert share == pytest.approx(4 / 7.5, rel=0.03)


def test_drawn_turns_have_the_profiles_lengths() -> None:
    talk = TalkProfile(question=Spread(median_s=3, sigma=0.4), answer=Spread(median_s=6), complete=1.0)
    turns = [draw(talk, STEPS, Random(seed)) for seed in range(400)]
    assert percentile([turn.seconds for turn in turns], 50) == pytest.approx(3, rel=0.1)
    assert {turn.speech for turn in turns} == {75}
    assert {turn.text for turn in turns} == {38}


def test_moments_are_those_of_the_turn_machine() -> None:
    settings = TurnSettings()
    paused, ask = moments_after(settings, complete=True)
    assert (paused.kind, ask) == ("paused", Moment(at_s=ask.at_s, kind="ask", complete=True))
    assert settings.pause_s <= paused.at_s < settings.pause_s + settings.window_s
    assert settings.ask_s <= ask.at_s < settings.ask_s + settings.window_s
    again = moments_after(settings, complete=False)
    assert [moment.complete for moment in again] == [False, False, True]


@pytest.mark.parametrize(("percent", "expected"), [(50, 5), (95, 10), (90, 9), (91, 10)])
def test_percentiles_by_nearest_rank(percent: float, expected: float) -> None:
    assert percentile([float(value) for value in range(10, 0, -1)], percent) == expected


def test_the_percentile_of_nothing_is_never() -> None:
    assert percentile([], 95) == math.inf
