"""The figures of one call, from what its caller heard."""

from dataclasses import dataclass

import numpy as np

from loadtest.calls.ear import CLOCK
from loadtest.calls.kept import Heard
from loadtest.calls.record import Call
from loadtest.ear import rtp, speech
from loadtest.ear.playout import DELAY_S, Listened, Pcm, listen
from loadtest.sip.talker import LOUD

SETTLED_S = 2.0  # after which a bot that was interrupted and speaks on has not fallen silent


@dataclass(frozen=True)
class Answer:
    """One question and what came of it. Times are seconds.

    Attributes:
        asked_at: of the run.
        first_audio_s: from the question's last sound to the answer's first; None: there was none.
        overlapped: the bot was heard during the question, which was no barge-in: what followed need not be its answer.
        stop_s: of a barge-in, from the caller's first sound to the bot's last; None: none, or it did not fall silent.
        gaps, clicks: in the answer.
        spoken_s: from the answer's first to its last sound.
        whole: it was heard to its end, and nobody spoke into it.
    """

    question: str
    asked_at: float
    barges_in: bool
    first_audio_s: float | None
    overlapped: bool
    stop_s: float | None
    gaps: tuple[speech.Gap, ...]
    clicks: int
    spoken_s: float
    whole: bool


@dataclass(frozen=True)
class Measured:
    """A call's figures.

    Attributes:
        speech: of each answer that is whole, 16-bit, at `rate`.
    """

    answers: tuple[Answer, ...]
    rtp: rtp.RtpCounts
    rate: int
    speech: tuple[Pcm | None, ...]


def measure(call: Call, heard: Heard, began: float) -> Measured:
    """Of a call that has ended.

    Args:
        began: of the run, monotonic seconds.
    """
    listened = listen(heard)
    answers, sounds = [], []
    for number, asked in enumerate(call.asked):
        if not asked.said_until:  # the call ended before the question did
            continue
        following = call.asked[number + 1] if number + 1 < len(call.asked) else None
        until = following.said_from if following is not None and following.said_from else call.ended
        first = speech.first_sound(listened.loud_at, asked.said_until)
        last = None if first is None or first > until else speech.last_sound(listened.loud_at, first - 1e-6, until)
        pcm = _between(listened, first, last)
        interrupted = following is not None and following.barges_in
        overlapped = not asked.barges_in and _is_loud(listened, asked.said_from, asked.said_until)
        rate = listened.sound.rate
        answers.append(
            Answer(
                question=asked.question,
                asked_at=asked.said_from - began,
                barges_in=asked.barges_in,
                first_audio_s=None if first is None or last is None else first - asked.said_until,
                overlapped=overlapped,
                stop_s=_stop_s(listened, asked.said_from, asked.said_until) if asked.barges_in else None,
                gaps=tuple(speech.gaps(pcm, rate)),
                clicks=len(speech.clicks(pcm, rate)),
                spoken_s=len(pcm) / rate,
                whole=len(pcm) > 0 and asked.quiet_at is not None and not interrupted and not overlapped,
            )
        )
        sounds.append(pcm if answers[-1].whole else None)
    counts = rtp.counts(heard.arrived, heard.sequence, heard.timestamp, CLOCK[heard.codec])
    return Measured(tuple(answers), counts, listened.sound.rate, tuple(sounds))


def _between(listened: Listened, first: float | None, last: float | None) -> Pcm:
    """The sound from one packet to another, as it was played."""
    if first is None or last is None:
        return np.zeros(0, np.int16)
    pcm = listened.sound.between(first, last + 4 * DELAY_S)
    loud = np.flatnonzero(np.abs(pcm.astype(np.int32)) > LOUD)
    return pcm[loud[0] : loud[-1] + 1] if len(loud) else pcm[:0]


def _is_loud(listened: Listened, since: float, until: float) -> bool:
    return speech.last_sound(listened.loud_at, since, until) is not None


def _stop_s(listened: Listened, said_from: float, said_until: float) -> float | None:
    silent = speech.falls_silent(listened.loud_at, said_from, max(said_until, said_from + SETTLED_S))
    return None if silent is None else max(0.0, silent - said_from)
