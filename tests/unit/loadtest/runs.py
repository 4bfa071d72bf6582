"""Runs of the load test, made up."""

from random import Random
from typing import Any

from loadtest.calls.record import Outcome
from loadtest.results.record import Answer, CallFigures, Point, Run
from loadtest.scenario.model import Scenario


def answer(first_audio_s: float | None = 0.6, **more: Any) -> Answer:
    given = {
        "question": "opening-hours",
        "asked_s": 3.0,
        "barges_in": False,
        "first_audio_s": first_audio_s,
        "overlapped": False,
        "stop_s": None,
        "gaps_s": (),
        "clicks": 0,
        "spoken_s": 3.0,
        "whole": True,
        **more,
    }
    return Answer.model_validate(given)


def call(number: int, *answers: Answer, **more: Any) -> CallFigures:
    given = {
        "number": number,
        "leg": "webrtc" if number % 3 == 0 else "sip",
        "persona": "",
        "began_s": float(number),
        "talk_s": 20.0,
        "outcome": Outcome.COMPLETED,
        "detail": "",
        "first_s": 0.02,
        "answer_s": 0.8,
        "bye_s": 0.01,
        "resent": 0,
        "greeting_s": 0.1,
        "received": 990,
        "lost": 10,
        "jitter_s": 0.002,
        "most_jitter_s": 0.004,
        "held": 0,
        "pressed": 0,
        "late_p99_s": 0.003,
        "late_most_s": 0.01,
        "answers": answers,
        **more,
    }
    return CallFigures.model_validate(given)


def run(*calls: CallFigures, agent_s: float = 20.0, **more: Any) -> Run:
    scenario = {
        "name": "made-up",
        "description": "<b>",
        "phases": [{"kind": "burst", "calls": 1, "every_s": 1, "for_s": 1}],
    }
    first = {"agent": 0.0, "lm": 0.0}
    points = [
        Point(at_s=at, cpu_s={name: at / 100 * used for name, used in zip(first, (agent_s, 10.0), strict=True)},
              rss_mib={"agent": 200.0}, descriptors={"agent": 50})
        for at in (0.0, 50.0, 100.0)
    ]  # fmt: skip
    return Run(
        scenario=Scenario.model_validate({**scenario, **more}),
        seed=1,
        circumstances="here",
        seconds=100.0,
        calls=calls,
        live=((0.0, 1), (100.0, 0)),
        faults=((12.0, "kill lm"),),
        points=tuple(points),
        lag_p99_s=0.001,
        judge="nobody judged the answers",
    )


def many(seed: int, median_s: float = 0.6, calls: int = 40, **more: Any) -> Run:
    """Calls of four answers, whose first audio varies by a tenth."""
    chance = Random(seed)
    made = [
        call(number, *(answer(median_s * chance.gauss(1.0, 0.1), right=chance.random() < 0.9) for _ in range(4)))
        for number in range(calls)
    ]
    return run(*made, **more)
