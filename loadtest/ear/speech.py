"""What an answer sounded like, from its samples and from when its packets came. Pure."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from loadtest.ear.playout import Pcm
from loadtest.sip.talker import LOUD

Times = npt.NDArray[np.float64]

DEAD = 8  # of 32768: a voice's own pauses are louder than this; silence that is sent, or nothing, is not
DEAD_S = 0.04
EDGE_S = 0.005  # beside a gap, where a voice that was cut off is still loud
LONG_S = 1.0  # no sentence pauses so long
PAUSE_S = 0.5  # after which a bot that was interrupted counts as silent
SHARP = 2.5  # steps of speech itself: one in half a minute is as sharp
LEAST = 2500  # of 32768
AROUND_S = 0.012  # more than a period of any voice
NEAR_S = 0.0003  # beside a step, which codecs and resamplers widen


@dataclass(frozen=True)
class Gap:
    """A hole in an answer: seconds from the beginning of the audio it was looked for in, and how long."""

    at_s: float
    seconds: float


def first_sound(loud_at: Times, since: float) -> float | None:
    """When the first sound after a time came."""
    index = int(np.searchsorted(loud_at, since, side="right"))
    return float(loud_at[index]) if index < len(loud_at) else None


def last_sound(loud_at: Times, since: float, until: float) -> float | None:
    """When the last sound in between came."""
    index = int(np.searchsorted(loud_at, until, side="right")) - 1
    return float(loud_at[index]) if index >= 0 and loud_at[index] > since else None


def falls_silent(loud_at: Times, since: float, until: float) -> float | None:
    """When the last sound came before the first pause of `PAUSE_S` that begins in between; None: there was none."""
    inside = loud_at[(loud_at >= since - PAUSE_S) & (loud_at <= until + PAUSE_S)]
    if not len(inside):
        return None
    for at, following in zip(inside, [*inside[1:], np.inf], strict=True):
        if following - at >= PAUSE_S:
            return float(at) if at <= until else None
    return None


def gaps(pcm: Pcm, rate: int) -> list[Gap]:
    """Holes in an answer.

    Such are 40 ms or more of nothing, or of the digital silence that is sent when there is nothing, beside a loud
    sound: a voice dies away before it pauses, one that is cut off does not. And such are pauses of a second.

    Args:
        pcm: from the answer's first to its last sound.
    """
    if not len(pcm):
        return []
    level = np.abs(pcm.astype(np.int32))
    edge = round(EDGE_S * rate)
    found = []
    for start, end in _runs(level <= DEAD, round(DEAD_S * rate)):
        if start == 0 or end == len(pcm):
            continue
        cut_off = max(level[max(0, start - edge) : start].max(), level[end : end + edge].max()) > LOUD
        if cut_off or end - start >= LONG_S * rate:
            found.append((start, end))
    known = list(found)
    for start, end in _runs(_quiet(level, rate), round(LONG_S * rate)):
        inside = start > 0 and end < len(pcm)
        if inside and not any(start < last and first < end for first, last in known):
            found.append((start, end))
    return [Gap(start / rate, (end - start) / rate) for start, end in sorted(found)]


def _quiet(level: npt.NDArray[np.int32], rate: int) -> npt.NDArray[np.bool_]:
    """Where nothing is loud within 10 ms on either side."""
    width = max(1, round(4 * EDGE_S * rate))
    loud = np.convolve(level > LOUD, np.ones(width), "same") > 0.5
    return np.asarray(~loud)


def _runs(where: npt.NDArray[np.bool_], least: int) -> list[tuple[int, int]]:
    """Beginnings and ends of runs of at least so many."""
    edges = np.diff(np.concatenate([[0], where.astype(np.int8), [0]]))
    starts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    return [(int(start), int(end)) for start, end in zip(starts, ends, strict=True) if end - start >= least]


def clicks(pcm: Pcm, rate: int) -> list[float]:
    """Where the waveform jumps, seconds.

    A click is a disturbance much shorter than a period of the voice (Godsill and Rayner, Digital Audio Restoration,
    1998, chapter 1): here a step from one sample to the next that is `SHARP` times as large as all others within
    `AROUND_S`, and louder than `LEAST`. The steps of a voice, at each closure of the glottis, come again with the next
    period; those of a hiss have others beside them.
    """
    steps = np.abs(np.diff(pcm.astype(np.int32)))
    around, near = round(AROUND_S * rate), max(2, round(NEAR_S * rate))
    if len(steps) < 2 * around:
        return []
    padded = np.pad(steps, around)
    most = sliding_window_view(padded, around - near + 1).max(axis=1)
    others = np.maximum(most[: len(steps)], most[around + near : around + near + len(steps)])
    found: list[float] = []
    for place in np.flatnonzero((steps > LEAST) & (steps > SHARP * others)):
        at = (int(place) + 1) / rate
        if not found or at - found[-1] >= AROUND_S:
            found.append(at)
    return found
