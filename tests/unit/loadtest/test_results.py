import json
import math
from pathlib import Path
from typing import Any

import pytest

from loadtest.calls.record import Outcome
from loadtest.results import record
from loadtest.results.compare import compare, compare_costs, warnings
from loadtest.results.html import page
from loadtest.results.record import Run
from loadtest.results.summary import by_leg, costs, doubts, figures, outcomes, reasons, verdicts, wrong
from tests.unit.loadtest.runs import answer, call, many, run


def value(found: Run, key: str) -> float:
    return next(figure.value for figure in figures(found) if figure.key == key)


def test_figures_are_of_what_counts() -> None:
    found = run(
        call(1, answer(0.5, gaps_s=(0.1, 0.3)), answer(0.9, right=True), answer(None), outcome="failed",
             detail="no answer to a question"),
        call(2, answer(5.0, overlapped=True, right=False), answer(0.7, barges_in=True, stop_s=0.3)),
        call(3, outcome="refused", detail="503", answer_s=None),
        call(4, answer(0.6, barges_in=True, clicks=3), outcome="hung up"),
        call(5, outcome="caller", detail="KeyError"),
    )  # fmt: skip
    assert value(found, "first_audio_p50_s") == 0.6
    assert value(found, "first_audio_p95_s") == 0.9  # not the overlapped one
    assert value(found, "stops_p50_s") == 0.3
    assert value(found, "not_silenced") == 0.5
    assert value(found, "gaps_per_minute") == pytest.approx(2 / (6 * 3.0 / 60))
    assert value(found, "clicks_per_minute") == pytest.approx(3 / (6 * 3.0 / 60))
    assert value(found, "correct") == 0.5
    assert value(found, "unanswered") == pytest.approx(1 / 6)
    assert (
        value(found, "failed") == value(found, "refused") == 0.25
    )  # the callers' own mistake is no call of the system's
    assert value(found, "lost") == pytest.approx(0.01)
    assert outcomes(found)[Outcome.REFUSED] == 1
    assert reasons(found) == {"failed: no answer to a question": 1, "refused: 503": 1, "caller: KeyError": 1}
    assert by_leg(found).keys() == {"sip", "webrtc"}
    assert [item.first_audio_s for item in wrong(found.answers)] == [5.0]


def test_nothing_measured_is_no_number() -> None:
    found = run(targets={"first_audio_p95_s": 1.0, "failed": 0})
    assert math.isnan(value(found, "first_audio_p50_s"))
    assert [verdict.holds for verdict in verdicts(found)] == [False, False]
    assert page(found)


@pytest.mark.parametrize(
    ("targets", "holds"),
    [
        ({"first_audio_p95_s": 1.0}, True),
        ({"first_audio_p95_s": 0.4}, False),
        ({"correct": 0.5}, True),
        ({"correct": 0.999}, False),
        ({"refused": 0, "failed": 0}, True),
        ({}, True),
    ],
)
def test_targets(targets: dict[str, float], holds: bool) -> None:
    found = verdicts(many(1, targets=targets))
    assert len(found) == len(targets)
    assert all(verdict.holds for verdict in found) is holds


def test_costs_are_of_calls_and_of_speech() -> None:
    dearest, other = costs(many(1))
    assert (dearest.stage, other.stage) == ("agent", "lm")
    assert dearest.cores == pytest.approx(0.2)
    assert dearest.per_call == pytest.approx(1000 * 20 / (40 * 20))
    assert dearest.per_spoken == pytest.approx(1000 * 20 / (160 * 3.0))
    assert costs(many(1).model_copy(update={"points": ()})) == []


def test_late_callers_are_not_to_be_trusted() -> None:
    assert doubts(many(1)) == []
    late = run(*(call(number, *[answer()] * 5, late_p99_s=0.2) for number in range(10)))
    assert "the callers were late themselves: 1 % of their packets by 200 ms" in doubts(late)[0]
    assert "only 1 answers" in doubts(run(call(1, answer())))[0]
    assert "1 calls ended by a mistake of the callers" in doubts(run(call(1, outcome="caller")))[0]


def test_a_run_is_read_as_it_was_written(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(record.written(_asking_from(Path("/home/ann/samples")), {"figures": {}}))
    assert record.load(tmp_path / "run.json") == _asking_from(Path("samples")), "but for where its questions lay"


def _asking_from(questions: Path) -> record.Run:
    made = many(1)
    talk = made.scenario.talk.model_copy(update={"questions": questions})
    return made.model_copy(update={"scenario": made.scenario.model_copy(update={"talk": talk})})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "cannot be read as JSON"),
        ("[]", "holds no run"),
        ('{"levels": []}', "holds no run"),
        ('{"run": {"version": 2}}', "is of version 2, not 1"),
        ('{"run": {"version": 1}}', "scenario: Field required"),
    ],
)
def test_other_files_are_told_apart(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(record.RecordError, match=said):
        record.load(tmp_path / "run.json")


def test_the_page_has_everything_in_it() -> None:
    text = page(many(1, targets={"first_audio_p95_s": 0.1}))
    assert text.count("<svg") == 4
    assert "1 of 1 targets missed" in text
    assert "&lt;b&gt;" in text  # a description is text
    assert not any(mark in text for mark in ("<script", "<link", "<img", "@import", 'href="http'))


def test_the_same_again_is_no_change() -> None:
    changes = compare(many(1), many(2), rounds=60)
    assert {change.verdict for change in changes if change.after.key.startswith("first_audio")} == {""}
    assert compare_costs(many(1), many(2))[0].verdict == ""
    assert warnings(many(1), many(2)) == []


@pytest.mark.parametrize(("median_s", "verdict"), [(0.9, "worse"), (0.4, "better")])
def test_what_is_more_than_chance_is_told(median_s: float, verdict: str) -> None:
    changes = {change.after.key: change for change in compare(many(1), many(2, median_s), rounds=60)}
    change = changes["first_audio_p50_s"]
    assert change.verdict == verdict
    assert change.low <= change.difference <= change.high
    assert changes["correct"].verdict == ""


def test_more_right_answers_are_better() -> None:
    wrong_ones = run(*(call(number, answer(right=False)) for number in range(20)))
    right_ones = run(*(call(number, answer(right=True)) for number in range(20)))
    changes = {change.after.key: change for change in compare(wrong_ones, right_ones, rounds=20)}
    assert changes["correct"].verdict == "better"


def test_dearer_stages_are_told() -> None:
    [agent, lm] = compare_costs(many(1), many(1, agent_s=30.0))
    assert (agent.verdict, lm.verdict) == ("worse", "")


def test_few_calls_tell_nothing() -> None:
    few: list[Any] = [many(1, calls=3), many(2, 2.0, calls=3)]
    assert {change.verdict for change in compare(*few)} == {""}
    assert "fewer than 5 calls" in warnings(*few)[0]
    assert "the scenarios differ" in warnings(many(1), many(1, legs={"webrtc": 1}))


def test_figures_stand_beside_the_run() -> None:
    text = record.written(many(1), {"figures": {"correct": 0.9}})
    assert json.loads(text)["figures"] == {"correct": 0.9}
