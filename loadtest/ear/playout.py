"""Puts packets on the caller's clock, as a phone does that waits a little and, when a packet is late, waits for it."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import soxr

from loadtest.calls.ear import CLOCK
from loadtest.calls.kept import Heard
from loadtest.ear.rtp import unwrapped
from loadtest.sip.talker import LOUD
from loadtest.sip.wire import mu_law

Pcm = npt.NDArray[np.int16]
RATES = {"pcmu": 8000, "opus": 16_000}  # of `Sound`
DELAY_S = 0.06  # for which the first packet waits: three of them may be late without being heard
RESTART_S = 1.0  # a jump of timestamps against arrivals that is a new clock


@dataclass(frozen=True)
class Sound:
    """What was heard.

    Attributes:
        begin: when its first sample was heard, monotonic seconds.
        pcm: 16-bit; zeros where nothing was there.
    """

    rate: int
    begin: float
    pcm: Pcm

    def between(self, start: float, end: float) -> Pcm:
        """From one time to another."""
        first, last = (max(0, round((at - self.begin) * self.rate)) for at in (start, end))
        return self.pcm[first:last]


@dataclass(frozen=True)
class Listened:
    """A call's audio.

    Attributes:
        loud_at: when packets with sound in them came, in order.
    """

    sound: Sound
    loud_at: npt.NDArray[np.float64]


def play_times(
    arrived: npt.NDArray[np.float64],
    media_s: npt.NDArray[np.float64],
    loud: npt.NDArray[np.bool_],
    delay_s: float,
) -> list[float]:
    """When packets are heard.

    Args:
        arrived: seconds, in the order of `media_s`.
        media_s: seconds of the sender's clock, rising.
        loud: whether there is sound in them; what others delay is made good in silence.
        delay_s: for which the first packet waits.
    """
    found: list[float] = []
    play = last = 0.0
    for at, media, sounds in zip(arrived.tolist(), media_s.tolist(), loud.tolist(), strict=True):
        if not found or abs((media - last) - (at - (play - delay_s))) > RESTART_S:
            play = max(at + delay_s, play)
        else:
            play = max(play + media - last, at)
            if not sounds:
                play = max(found[-1], min(play, at + delay_s))
        found.append(play)
        last = media
    return found


def listen(heard: Heard) -> Listened:
    """Decodes a call and plays it."""
    rate = RATES[heard.codec]
    if not len(heard.arrived):
        return Listened(Sound(rate, 0.0, np.zeros(0, np.int16)), np.zeros(0))
    packets = _decoded(heard)
    loud = np.array([bool(np.abs(packet.astype(np.int32)).max(initial=0) > LOUD) for packet in packets])
    numbers = unwrapped(heard.sequence, 16)
    order = np.argsort(numbers, kind="stable")
    order = order[np.concatenate([[True], np.diff(numbers[order]) > 0])]  # duplicates are heard once
    media_s = unwrapped(heard.timestamp, 32)[order] / CLOCK[heard.codec]
    arrived = heard.arrived[order]
    times = play_times(arrived, media_s, loud[order], DELAY_S)
    begin = times[0]
    own_rate = CLOCK[heard.codec]
    pcm = np.zeros(round((max(times) - begin) * own_rate) + own_rate, np.int16)
    for place, index in zip(times, order.tolist(), strict=True):
        start = round((place - begin) * own_rate)
        piece = packets[index][: len(pcm) - start]
        pcm[start : start + len(piece)] = piece
    if rate != own_rate:
        pcm = np.rint(soxr.resample(pcm.astype(np.float32), own_rate, rate)).clip(-32768, 32767).astype(np.int16)
    return Listened(Sound(rate, begin, pcm), np.sort(heard.arrived[loud]))


def _decoded(heard: Heard) -> list[Pcm]:
    if heard.codec == "pcmu":
        return [mu_law(payload) for payload in heard.payload]
    from loadtest.calls.webrtc import opus_decoder, opus_pcm

    codec = opus_decoder()
    return [opus_pcm(codec, payload) for payload in heard.payload]
