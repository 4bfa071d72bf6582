"""Puts a run's record together, once its calls have ended: measures what was heard, and has answers judged."""

import os
import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

from loadtest.calls.kept import Heard
from loadtest.calls.record import Call
from loadtest.cpu import Sample
from loadtest.ear.judge import Holds, NoJudgeError, is_right, judge
from loadtest.ear.measure import Measured, measure
from loadtest.ear.playout import Pcm
from loadtest.results.record import Answer, CallFigures, Point, Run
from loadtest.run import Ran
from loadtest.scenario.model import Scenario
from loadtest.scenario.questions import Question
from loadtest.sim.run import percentile

Tell = Callable[[str], None]


def path_of(kept: Path, call: Call) -> Path:
    """Where a call's audio lies."""
    return kept / f"{call.plan.number}.npz"


def assemble(
    scenario: Scenario,
    questions: Sequence[Question],
    seed: int,
    ran: Ran,
    kept: Path,
    samples: Sequence[Sample],
    system: str,
    tell: Tell = lambda doing: None,
) -> Run:
    """The record of a run.

    Args:
        kept: directory with what each call heard.
        samples: of the system's processes; empty: they are not known.
        system: what was called, in words.
        tell: takes what is being done.
    """
    calls = sorted(ran.calls, key=lambda call: call.began)
    measured: list[Measured] = []
    for number, call in enumerate(calls, 1):
        tell(f"measuring what call {number} of {len(calls)} heard")
        measured.append(measure(call, Heard.load(path_of(kept, call)), ran.began))
    judged, note = _judged(measured, questions, scenario.judged, seed, tell)
    figures = tuple(
        _figures(call, found, ran.began, {place[1]: said for place, said in judged.items() if place[0] == index})
        for index, (call, found) in enumerate(zip(calls, measured, strict=True))
    )
    return Run(
        scenario=scenario,
        seed=seed,
        circumstances=_circumstances(ran, system),
        seconds=max((call.ended - ran.began for call in calls), default=0.0),
        calls=figures,
        live=tuple(ran.live),
        faults=tuple(ran.faults),
        points=tuple(Point(**vars(sample)) for sample in samples),
        lag_p99_s=percentile(ran.lag_s, 99) if ran.lag_s else 0.0,
        judge=note,
    )


def _judged(
    measured: Sequence[Measured], questions: Sequence[Question], most: int, seed: int, tell: Tell
) -> tuple[dict[tuple[int, int], tuple[str, bool]], str]:
    """By call and answer: what was heard, and whether it is right; and a note on the judge."""
    expects = {question.name: question.expects for question in questions}
    waiting: list[tuple[tuple[int, int], str, Pcm, int]] = []
    for index, found in enumerate(measured):
        for place, (answer, pcm) in enumerate(zip(found.answers, found.speech, strict=True)):
            if pcm is not None and expects.get(answer.question):
                waiting.append(((index, place), answer.question, pcm, found.rate))
    if not most or not waiting:
        return {}, "nobody judged the answers"
    try:
        hears, holds = judge()
    except NoJudgeError as error:
        return {}, str(error)
    drawn = waiting if len(waiting) <= most else Random(f"{seed}:judge").sample(waiting, most)
    judged = {}
    for number, (where, question, pcm, rate) in enumerate(drawn, 1):
        tell(f"judging answer {number} of {len(drawn)}")
        judged[where] = _heard(hears(pcm, rate), expects[question], holds)
    return judged, f"Whisper tiny.en heard {len(drawn)} of {len(waiting)} whole answers with expected words"


def _heard(text: str, expects: Sequence[str], holds: Holds) -> tuple[str, bool]:
    return text, is_right(text, expects, holds)


def _figures(call: Call, found: Measured, began: float, judged: dict[int, tuple[str, bool]]) -> CallFigures:
    greeting_s = None
    if call.answered_at is not None and call.greeted_at is not None:
        greeting_s = call.greeted_at - call.answered_at
    answers = []
    for place, answer in enumerate(found.answers):
        heard, right = judged.get(place, (None, None))
        answers.append(
            Answer(
                question=answer.question,
                asked_s=_round(answer.asked_at),
                barges_in=answer.barges_in,
                first_audio_s=_round_some(answer.first_audio_s),
                overlapped=answer.overlapped,
                stop_s=_round_some(answer.stop_s),
                gaps_s=tuple(_round(gap.seconds) for gap in answer.gaps),
                clicks=answer.clicks,
                spoken_s=_round(answer.spoken_s),
                whole=answer.whole,
                right=right,
                heard=heard,
            )
        )
    return CallFigures(
        number=call.plan.number,
        leg=call.plan.leg,
        persona=call.plan.persona,
        began_s=_round(call.began - began),
        talk_s=_round(call.ended - call.answered_at) if call.answered_at is not None else 0.0,
        outcome=call.outcome,
        detail=call.detail,
        first_s=_round_some(call.signalling.first_s),
        answer_s=_round_some(call.signalling.answer_s),
        bye_s=_round_some(call.signalling.bye_s),
        resent=call.signalling.resent,
        greeting_s=_round_some(greeting_s),
        received=found.rtp.received,
        lost=found.rtp.lost,
        jitter_s=_round(found.rtp.jitter_s),
        most_jitter_s=_round(found.rtp.most_jitter_s),
        held=call.held,
        pressed=call.pressed,
        late_p99_s=_round(percentile(call.late_s, 99)) if call.late_s else 0.0,
        late_most_s=_round(max(call.late_s, default=0.0)),
        answers=tuple(answers),
    )


def _round(seconds: float) -> float:
    return round(seconds, 5)


def _round_some(seconds: float | None) -> float | None:
    return None if seconds is None else _round(seconds)


def _circumstances(ran: Ran, system: str) -> str:
    day = time.strftime("%d %B %Y, %H:%M UTC", time.gmtime(ran.began_unix))
    return (
        f"{system}. The callers: {len(os.sched_getaffinity(0))} cores ({platform.machine()}), load "
        f"{os.getloadavg()[0]:.1f} at the end. {day}"
    )
