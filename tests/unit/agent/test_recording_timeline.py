"""The two channels of a recording against what really was when, on a clock of the test's own."""

from collections.abc import Iterator

import numpy as np
import pytest

from services.agent.recording.timeline import HOLD_S, Pcm, Timeline

RATE = 16_000
FRAME = RATE // 50
FRAME_S = 0.02
PACKET_S = 0.02
START = 1000.0


def burst(samples: int = FRAME) -> Pcm:
    return np.full(samples, 10_000, np.int16)


def silence(samples: int = FRAME) -> Pcm:
    return np.zeros(samples, np.int16)


class Line:
    """A caller's line: what they say in true time reaches the agent in frames, late by what `delay` gives.

    Args:
        drift: how much faster the caller's clock runs than ours: 1e-4 is 100 ppm.
    """

    def __init__(self, seconds: float, beeps_s: list[float], drift: float = 0.0) -> None:
        self._rate = RATE * (1 + drift)
        self._samples = np.zeros(int(seconds * self._rate) // FRAME * FRAME, np.int16)
        for at in beeps_s:
            first = round(at * self._rate)
            self._samples[first : first + FRAME] = 10_000

    def frames(self, delay: Iterator[float]) -> Iterator[tuple[float, Pcm]]:
        """Arrival, in order of sending, and the frame."""
        latest = 0.0
        for end in range(FRAME, len(self._samples) + 1, FRAME):
            latest = max(latest, START + end / self._rate + next(delay))
            yield latest, self._samples[end - FRAME : end]


def record(timeline: Timeline, events: list[tuple[float, str, Pcm]], until: float) -> Pcm:
    """Feeds events by time, takes blocks twice a second."""
    blocks: list[Pcm] = []
    next_take = START
    for at, who, pcm in sorted(events, key=lambda event: event[0]):
        while at > next_take:
            blocks += timeline.take(next_take)
            next_take += 0.5
        if who == "caller":
            timeline.caller(at, pcm)
        else:
            timeline.bot(at, pcm)
    blocks += timeline.close(until)
    return np.concatenate(blocks)


def onsets_s(channel: Pcm) -> list[float]:
    """Where sound begins after silence."""
    loud = np.abs(channel.astype(np.int32)) > 5000
    return [float(at) / RATE for at in np.flatnonzero(loud & ~np.concatenate([[False], loud[:-1]]))]


def no_delay() -> Iterator[float]:
    while True:
        yield 0.0


def jitter(most_s: float, seed: int = 1) -> Iterator[float]:
    """Mostly small, now and then up to `most_s`."""
    random = np.random.default_rng(seed)
    while True:
        yield float(most_s * random.random() ** 3)


@pytest.mark.parametrize("drift", [0.0, 1e-4, -1e-4])
def test_both_ways_stay_within_a_packet_of_the_truth_for_ten_minutes(drift: float) -> None:
    seconds = 600.0
    beeps = [10.0 * n for n in range(1, 60)]
    events = [(at, "caller", pcm) for at, pcm in Line(seconds, beeps, drift).frames(jitter(0.08))]
    # The bot beeps at the same moments: 0.4 s answers, of which three packets leave at once.
    for beep in beeps:
        for packet in range(20):
            leaves = START + beep + max(0, packet - 2) * PACKET_S
            events.append((leaves, "bot", burst() if packet == 0 else silence()))
    stereo = record(Timeline(RATE, START), events, START + seconds)
    assert len(stereo) == seconds * RATE
    caller, bot = onsets_s(stereo[:, 0]), onsets_s(stereo[:, 1])
    assert len(caller) == len(bot) == len(beeps)
    assert np.abs(np.array(caller) - beeps).max() <= PACKET_S
    assert np.abs(np.array(bot) - beeps).max() <= PACKET_S / 10
    assert np.abs(np.array(caller) - np.array(bot)).max() <= PACKET_S


def test_jitter_makes_no_seam() -> None:
    tone = (np.sin(np.arange(10 * RATE) * 0.1) * 8000).astype(np.int16)
    timeline = Timeline(RATE, START)
    delays = jitter(0.1)
    late, events = 0.0, []
    for first in range(0, len(tone), FRAME):
        late = max(late, START + (first + FRAME) / RATE + next(delays))
        events.append((late, "caller", tone[first : first + FRAME]))
    heard = record(timeline, events, START + 11.0)[:, 0]
    begin = int(np.flatnonzero(heard)[0])
    assert begin < 0.02 * RATE
    assert np.array_equal(heard[begin : begin + len(tone) - 1], tone[1:])


def test_a_stall_of_the_agent_does_not_move_what_was_said() -> None:
    def stalled() -> Iterator[float]:
        for frame in range(10_000):
            at = frame * FRAME_S
            yield max(0.0, 5.6 - at) if at >= 5.0 else 0.0

    events = [(at, "caller", pcm) for at, pcm in Line(10.0, [3.0, 5.2, 8.0]).frames(stalled())]
    stereo = record(Timeline(RATE, START), events, START + 10.0)
    assert onsets_s(stereo[:, 0]) == pytest.approx([3.0, 5.2, 8.0], abs=0.01)


def test_a_gap_in_the_callers_audio_is_silence_of_its_length() -> None:
    frames = list(Line(10.0, [1.0, 8.0]).frames(no_delay()))
    events = [(at, "caller", pcm) for at, pcm in frames if not START + 3.0 < at <= START + 7.0]
    stereo = record(Timeline(RATE, START), events, START + 10.0)
    assert onsets_s(stereo[:, 0]) == pytest.approx([1.0, 8.0], abs=0.001)


def test_an_interruption_takes_back_what_was_not_heard() -> None:
    timeline = Timeline(RATE, START)
    for _ in range(4):  # 80 ms, sent at once
        timeline.bot(START + 1.0, burst())
    timeline.interrupt(START + 1.03)
    timeline.bot(START + 1.05, burst())
    stereo = np.concatenate(list(timeline.close(START + 2.0)))
    expected = np.zeros(2 * RATE, np.int16)
    expected[RATE : int(1.03 * RATE)] = 10_000
    expected[int(1.05 * RATE) : int(1.07 * RATE)] = 10_000
    assert np.array_equal(stereo[:, 1], expected)


def test_what_is_not_heard_before_the_end_is_left_out() -> None:
    timeline = Timeline(RATE, START)
    for _ in range(4):
        timeline.bot(START + 1.0, burst())
    stereo = np.concatenate(list(timeline.close(START + 1.05)))
    assert len(stereo) == round(1.05 * RATE)
    assert stereo[RATE:, 1].all()


def test_a_pause_is_silence_of_exact_length_in_both_channels() -> None:
    timeline = Timeline(RATE, START)
    blocks: list[Pcm] = []
    for number in range(500):
        now = START + (number + 1) * FRAME_S
        if number == 150:
            timeline.pause(now - 0.005)
            timeline.pause(now - 0.001)
            assert timeline.paused
        if number == 300:
            timeline.resume(now - 0.007)
            timeline.resume(now)
            assert not timeline.paused
        timeline.caller(now, burst())
        timeline.bot(now - FRAME_S, burst())
        blocks += timeline.take(now)
    blocks += timeline.close(START + 10.0)
    stereo = np.concatenate(blocks)
    begin, end = round((151 * FRAME_S - 0.005) * RATE), round((301 * FRAME_S - 0.007) * RATE)
    assert not stereo[begin:end].any()
    assert stereo[:begin, 1].all()
    assert stereo[: begin - FRAME, 0].all(), "but for the frame that was on its way"
    assert stereo[end:].all()


def test_a_pause_that_lasts_to_the_end() -> None:
    timeline = Timeline(RATE, START)
    for number in range(100):
        now = START + (number + 1) * FRAME_S
        if number == 50:
            timeline.pause(now)
        timeline.caller(now, burst())
    stereo = np.concatenate(list(timeline.close(START + 2.0)))
    assert len(stereo) == 2 * RATE
    assert stereo[:RATE, 0].all()
    assert not stereo[RATE:].any()


def test_audio_faster_than_any_clock_does_not_fill_the_memory() -> None:
    timeline = Timeline(RATE, START)
    for _ in range(10_000):
        timeline.caller(START + 1.0, burst())
        timeline.bot(START + 1.0, burst())
    stereo = np.concatenate(list(timeline.close(START + 60.0)))
    assert np.count_nonzero(stereo[:, 0]) <= 6 * RATE
    assert np.count_nonzero(stereo[:, 1]) <= 6 * RATE


def test_what_is_handed_out_trails_the_clock_and_the_rest_is_backlog() -> None:
    timeline = Timeline(RATE, START)
    assert sum(len(block) for block in timeline.take(START + 10.0)) == (10.0 - HOLD_S) * RATE
    assert timeline.backlog_s(START + 10.0) == 0.0
    assert timeline.backlog_s(START + 13.0) == 3.0


def test_what_arrives_in_a_pause_is_not_recorded_however_early_it_belongs() -> None:
    timeline = Timeline(RATE, START)
    for number in range(200):
        now = START + (number + 1) * FRAME_S
        if number == 100:
            timeline.pause(now)
        late = 0.3 if 100 <= number < 115 else 0.0  # the line stalls just then
        timeline.caller(max(now, START + 101 * FRAME_S + late), burst() if number < 100 else -burst())
    stereo = np.concatenate(list(timeline.close(START + 4.0)))
    assert stereo[: 100 * FRAME, 0].all()
    assert (stereo >= 0).all()
