"""What a run comes to: figures, whether the targets hold, whether the figures can be trusted. Pure."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from loadtest.calls.record import OURS, PLANNED, Outcome
from loadtest.results.record import Answer, CallFigures, Run
from loadtest.sim.run import percentile

LATE_S = 0.04  # of 1 % of the callers' packets: two packets, which a phone's jitter buffer just hides


@dataclass(frozen=True)
class Figure:
    """One number.

    Attributes:
        key: stable name.
        name: for people.
        value: NaN: nothing was measured.
        unit: `s`, `ms`, `%`, `/min` or empty; values of `ms` are seconds, of `%` shares.
        of: how many samples.
        better: -1: less is better, 1: more, 0: neither.
    """

    key: str
    name: str
    value: float
    unit: str
    of: int
    better: int = -1

    @property
    def text(self) -> str:
        """With its unit."""
        if math.isnan(self.value) or math.isinf(self.value):
            return "-"
        match self.unit:
            case "s":
                return f"{self.value:.2f} s"
            case "ms":
                return f"{1000 * self.value:.1f} ms"
            case "%":
                return f"{100 * self.value:.1f} %"
            case "/min":
                return f"{self.value:.1f}/min"
        return f"{self.value:g}"


@dataclass(frozen=True)
class Verdict:
    """A target and what was found."""

    target: str
    wanted: float
    found: Figure
    holds: bool


def figures(run: Run, calls: Sequence[CallFigures] | None = None) -> list[Figure]:
    """All figures of a run, or of some of its calls."""
    calls = run.calls if calls is None else calls
    answers = [answer for call in calls for answer in call.answers]
    first = [answer.first_audio_s for answer in answers if answer.counts and answer.first_audio_s is not None]
    stops = [answer.stop_s for answer in answers if answer.stop_s is not None]
    barge_ins = [answer for answer in answers if answer.barges_in]
    judged = [answer for answer in answers if answer.right is not None]
    minutes = sum(answer.spoken_s for answer in answers) / 60
    gaps = [seconds for answer in answers for seconds in answer.gaps_s]
    packets = sum(call.received + call.lost for call in calls)
    reached = [call for call in calls if call.outcome is not Outcome.CALLER]
    return [
        *_spread("first_audio", "first audio", first, "s"),
        *_spread("setup", "call to answer", _given(calls, lambda call: call.answer_s), "s"),
        Figure("ring_p95_s", "call to ringing, p95", _at(_given(calls, _rings), 95), "s", len(calls)),
        Figure("bye_p95_s", "goodbye, p95", _at(_given(calls, lambda call: call.bye_s), 95), "s", len(calls)),
        Figure("greeting_p95_s", "answer to greeting, p95", _at(_given(calls, lambda call: call.greeting_s), 95), "s",
               len(calls)),
        *_spread("stops", "falls silent after barge-in", stops, "s"),
        _share("not_silenced", "barge-ins that did not silence the bot", _not_silenced(barge_ins), barge_ins),
        Figure("gaps_per_minute", "gaps in what the bot says", _ratio(len(gaps), minutes), "/min", len(answers)),
        Figure("gap_p95_s", "length of a gap, p95", _at(gaps, 95), "s", len(gaps)),
        Figure("clicks_per_minute", "clicks in what the bot says",
               _ratio(sum(answer.clicks for answer in answers), minutes), "/min", len(answers)),
        _share("correct", "answers that are right", sum(bool(answer.right) for answer in judged), judged, better=1),
        _share("unanswered", "questions without an answer", sum(_is_unanswered(call) for call in calls), answers),
        _share("overlapped", "questions over which the bot spoke", sum(a.overlapped for a in answers), answers),
        _share("failed", "calls that failed for the system's reasons",
               sum(call.outcome in OURS for call in reached), reached),
        _share("refused", "calls refused", sum(call.outcome is Outcome.REFUSED for call in reached), reached),
        _share("network", "calls not reached or lost on the way",
               sum(call.outcome is Outcome.NETWORK for call in reached), reached),
        Figure("lost", "RTP packets lost", _ratio(sum(call.lost for call in calls), packets), "%", packets),
        Figure("jitter_p95_s", "jitter (RFC 3550), p95 of calls",
               _at([call.jitter_s for call in calls if call.received], 95), "ms", len(calls)),
    ]  # fmt: skip


def _is_unanswered(call: CallFigures) -> bool:
    return call.outcome is Outcome.FAILED and call.detail == "no answer to a question"


def _rings(call: CallFigures) -> float | None:
    return call.first_s


def _not_silenced(barge_ins: Sequence[Answer]) -> int:
    return sum(answer.stop_s is None for answer in barge_ins)


def _given(calls: Iterable[CallFigures], of: Callable[[CallFigures], float | None]) -> list[float]:
    return [value for call in calls if (value := of(call)) is not None]


def _spread(key: str, name: str, values: Sequence[float], unit: str) -> list[Figure]:
    return [
        Figure(f"{key}_p50_s", f"{name}, median", _at(values, 50), unit, len(values)),
        Figure(f"{key}_p95_s", f"{name}, p95", _at(values, 95), unit, len(values)),
    ]


def _at(values: Sequence[float], percent: float) -> float:
    return percentile(values, percent) if values else math.nan


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan


def _share(key: str, name: str, part: int, whole: Sequence[object], better: int = -1) -> Figure:
    return Figure(key, name, _ratio(part, len(whole)), "%", len(whole), better)


def by_leg(run: Run) -> dict[str, list[Figure]]:
    """Figures of each kind of leg."""
    legs = sorted({call.leg for call in run.calls})
    return {leg: figures(run, [call for call in run.calls if call.leg == leg]) for leg in legs}


def outcomes(run: Run) -> dict[Outcome, int]:
    """Calls by how they ended."""
    counted = Counter(call.outcome for call in run.calls)
    return {outcome: counted[outcome] for outcome in Outcome if counted[outcome]}


def reasons(run: Run) -> dict[str, int]:
    """What was not as planned, and how often."""
    found = Counter(f"{call.outcome}: {call.detail}" for call in run.calls if call.outcome not in PLANNED)
    return dict(found.most_common())


AT_LEAST = {"correct"}


def verdicts(run: Run) -> list[Verdict]:
    """Each target; one for which nothing was measured does not hold."""
    found = {figure.key: figure for figure in figures(run)}
    return [
        Verdict(key, wanted, found[key], _holds(found[key].value, wanted, key in AT_LEAST))
        for key, wanted in run.scenario.targets.model_dump().items()
        if wanted is not None
    ]


def _holds(value: float, wanted: float, at_least: bool) -> bool:
    return value >= wanted if at_least else value <= wanted


@dataclass(frozen=True)
class Cost:
    """A stage's processor time.

    Attributes:
        cores: busy on average.
        per_call: core-milliseconds a second of a call.
        per_spoken: core-milliseconds a second of what the bot said.
    """

    stage: str
    cores: float
    per_call: float
    per_spoken: float


def costs(run: Run) -> list[Cost]:
    """By stage, the dearest first; empty where the system's processes are not known."""
    if len(run.points) < 2:
        return []
    first, last = run.points[0], run.points[-1]
    call_s = sum(call.talk_s for call in run.calls)
    spoken_s = sum(answer.spoken_s for answer in run.answers)
    found = []
    for stage, used in last.cpu_s.items():
        spent = used - first.cpu_s.get(stage, 0.0)
        cores = spent / (last.at_s - first.at_s)
        found.append(Cost(stage, cores, _ratio(1000 * spent, call_s), _ratio(1000 * spent, spoken_s)))
    return sorted(found, key=lambda cost: -cost.cores)


def late_p99_s(run: Run) -> float:
    """By how much the callers' packets were late, p99 of calls' p99; 0 without any."""
    late = [call.late_p99_s for call in run.calls if call.talk_s > 1.0]
    return percentile(late, 99) if late else 0.0


def doubts(run: Run) -> list[str]:
    """Why figures are not to be trusted; empty: they are."""
    found = []
    if (late := late_p99_s(run)) > LATE_S:
        found.append(
            f"the callers were late themselves: 1 % of their packets by {1000 * late:.0f} ms or more "
            f"(no more than {1000 * LATE_S:.0f} ms is fine). Give them a machine of their own"
        )
    mistakes = sum(call.outcome is Outcome.CALLER for call in run.calls)
    if mistakes:
        found.append(f"{mistakes} calls ended by a mistake of the callers")
    answers = [answer for answer in run.answers if answer.counts]
    if answers and len(answers) < 20:
        found.append(f"only {len(answers)} answers: their p95 is nearly the longest of them")
    return found


def wrong(answers: Iterable[Answer]) -> list[Answer]:
    """Judged, and not right."""
    return [answer for answer in answers if answer.right is False]
