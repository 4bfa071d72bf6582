"""The jitter buffer, fed with packets of 20 ms in virtual time."""

import random
from dataclasses import dataclass, field
from itertools import pairwise

import pytest

from services.agent.legs.jitter import TICKS_PER_S, JitterBuffer, JitterSettings, Kind, Step

PACKET = TICKS_PER_S // 50
FIRST = 65_500  # sequence numbers wrap within a second
START = 2**32 - 30 * PACKET  # and so do timestamps


def ms(ticks: float) -> float:
    return ticks * 1000 / TICKS_PER_S


@dataclass
class Line:
    """Sends packets as told and notes what comes out, and when."""

    buffer: JitterBuffer = field(default_factory=JitterBuffer)
    out: list[tuple[float, Step]] = field(default_factory=list)

    def run(self, arrivals: dict[int, float], until: float) -> None:
        """`arrivals`: packet number -> seconds; the others are lost. Packet n is sent at n * 20 ms."""
        coming = sorted((at, number) for number, at in arrivals.items())
        now = 0.0
        while now < until:
            while coming and coming[0][0] <= now:
                _, number = coming.pop(0)
                stamp = (START + number * PACKET) % 2**32
                self.buffer.put((FIRST + number) % 2**16, stamp, PACKET, b"%d" % number, now)
                self.note(now)
            wake = self.buffer.wake_at(now)
            if wake is not None and wake <= now + 1e-9:
                self.note(now)
            now = round(now + 0.001, 3)

    def note(self, now: float) -> None:
        self.out += [(now, step) for step in self.buffer.poll(now)]

    def played(self) -> list[int]:
        return [int(step.payload) for _, step in self.out if step.kind is Kind.DECODE]

    def position(self, number: int) -> int:
        """Ticks of audio before this packet's."""
        before = 0
        for _, step in self.out:
            if step.kind is Kind.DECODE and int(step.payload) == number:
                return before
            before += step.ticks
        raise AssertionError(f"packet {number} was not played")

    def delay(self, number: int) -> float:
        return next(at for at, s in self.out if s.kind is Kind.DECODE and int(s.payload) == number) - number * 0.02


def on_time(numbers: range, latency: float = 0.04) -> dict[int, float]:
    return {number: round(number * 0.02 + latency, 3) for number in numbers}


def test_packets_in_order_are_passed_on_at_once() -> None:
    line = Line()
    line.run(on_time(range(100)), 2.1)
    assert line.played() == [*range(100)]
    assert {round(line.delay(number), 3) for number in range(100)} == {0.04}
    assert [step.kind for _, step in line.out if step.kind is not Kind.DECODE] == [Kind.RESET]
    assert line.buffer.owed == 0


def test_a_lost_packet_is_recovered_from_the_next_one_and_delays_only_that() -> None:
    line = Line()
    arrivals = on_time(range(100))
    del arrivals[50]
    line.run(arrivals, 2.1)
    [index] = [index for index, (_, step) in enumerate(line.out) if step.kind is Kind.RECOVER]
    assert line.out[index][1] == Step(Kind.RECOVER, PACKET, b"51")
    assert line.out[index + 1][1] == Step(Kind.DECODE, PACKET, b"51")
    assert line.delay(51) == pytest.approx(0.06), "it waited for a straggler"
    assert line.delay(52) == pytest.approx(0.04)
    assert all(line.position(number) == number * PACKET for number in range(100) if number != 50)
    assert (line.buffer.counts.lost, line.buffer.counts.concealed) == (1, PACKET)


@pytest.mark.parametrize("burst", [2, 5, 10, 20])
def test_after_a_burst_of_losses_everything_is_where_it_was(burst: int) -> None:
    line = Line()
    arrivals = on_time(range(200))
    for number in range(50, 50 + burst):
        del arrivals[number]
    line.run(arrivals, 4.1)
    assert line.position(50 + burst) == (50 + burst) * PACKET
    assert line.delay(52 + burst) == pytest.approx(0.04), "the delay is gone two packets later"
    assert line.buffer.owed == 0
    assert line.buffer.counts.lost == burst


def test_a_straggler_is_put_in_its_place() -> None:
    line = Line()
    arrivals = on_time(range(100)) | {50: 50 * 0.02 + 0.075}
    line.run(arrivals, 2.1)
    assert line.played() == [*range(100)]
    assert line.buffer.counts.lost == 0


def test_stragglers_teach_it_to_wait_and_it_forgets_them_again() -> None:
    line = Line()
    late = {number: number * 0.02 + 0.11 for number in (20, 30)}  # 50 ms behind the packet after them
    line.run(on_time(range(300)) | late, 6.1)
    assert 20 not in line.played(), "the first came as a surprise"
    assert 30 in line.played()
    assert line.buffer.counts.late == 1
    assert line.buffer.wait(6.0) == JitterSettings().least_wait


def test_jitter_without_loss_loses_nothing_and_owes_nothing() -> None:
    draw = random.Random(3)
    at = 0.0
    arrivals = {}
    for number in range(500):
        at = max(at, number * 0.02 + 0.02 + draw.uniform(0, 0.06))  # in order, as queues deliver
        arrivals[number] = round(at, 3)
    line = Line()
    line.run(arrivals, 10.1)
    assert line.played() == [*range(500)]
    assert (line.buffer.owed, line.buffer.counts.concealed) == (0, 0)


def test_a_stall_loses_no_word_and_what_is_owed_is_the_concealment() -> None:
    line = Line()
    arrivals = on_time(range(200)) | dict.fromkeys(range(50, 68), 1.4)  # 18 packets come together
    line.run(arrivals, 4.1)
    assert line.played() == [*range(200)]
    fills = sum(step.ticks for at, step in line.out if step.kind is Kind.CONCEAL)
    assert fills > 0
    assert line.buffer.owed == fills
    assert line.position(100) - 100 * PACKET == fills, "until someone takes it out of the audio"
    assert line.delay(68) == pytest.approx(0.04), "the listener is not behind"
    line.buffer.repaid(fills)
    assert line.buffer.owed == 0


def test_a_dead_line_is_concealed_on_the_clock_and_then_rests() -> None:
    line = Line()
    line.run(on_time(range(50)), 3.0)
    concealed = [at for at, step in line.out if step.kind is Kind.CONCEAL]
    last = 49 * 0.02 + 0.04
    assert concealed[0] == pytest.approx(last + JitterSettings().fill_after, abs=0.0015)
    assert len(concealed) == 20, "0.4 s"
    assert all(later - earlier == pytest.approx(0.02, abs=0.0015) for earlier, later in pairwise(concealed))
    assert line.buffer.wake_at(3.0) is None


def test_a_listener_that_was_held_up_conceals_one_piece_and_not_all_that_it_missed() -> None:
    line = Line()
    line.run(on_time(range(10)), 0.3)
    before = len(line.out)
    line.note(2.0)
    line.note(2.0)
    assert len(line.out) == before + 1


def test_a_silent_sender_loses_nothing() -> None:
    """DTX (RFC 7587 section 3.1.3): the timestamps go on, the sequence numbers do not."""
    buffer = JitterBuffer()
    steps = []
    for number, tick in enumerate([0, 1, 2, 22, 23]):
        buffer.put(number, tick * PACKET, PACKET, b"%d" % number, tick * 0.02)
        steps += buffer.poll(tick * 0.02)
    assert [step.kind for step in steps].count(Kind.RECOVER) == 0
    assert buffer.counts.lost == 0
    assert sum(step.ticks for step in steps) == 24 * PACKET


def test_a_jump_of_the_timestamps_is_a_new_beginning() -> None:
    buffer = JitterBuffer()
    steps = []
    for number, stamp in enumerate([0, PACKET, 2**31, 2**31 + PACKET]):
        buffer.put(number, stamp, PACKET, b"x", number * 0.02)
        steps += buffer.poll(number * 0.02)
    kinds = [Kind.RESET, Kind.DECODE, Kind.DECODE] * 2
    assert [step.kind for step in steps] == [kinds[0], kinds[1], kinds[2], kinds[3], kinds[4], kinds[5]]
    assert buffer.owed == 0


def test_duplicates_are_played_once() -> None:
    buffer = JitterBuffer()
    steps = []
    for number in (0, 0, 1, 1, 0):
        buffer.put(number, number * PACKET, PACKET, b"%d" % number, 0.0)
        steps += buffer.poll(0.0)
    assert [step.payload for step in steps if step.kind is Kind.DECODE] == [b"0", b"1"]


@pytest.mark.parametrize("seed", range(20))
def test_whatever_happens_packets_come_out_in_order_and_once_and_the_timeline_holds(seed: int) -> None:
    draw = random.Random(seed)
    arrivals = {}
    for number in range(300):
        if draw.random() > 0.1:
            arrivals[number] = round(number * 0.02 + draw.choice([0.02, 0.02, 0.05, 0.2]) * draw.random(), 3)
    line = Line()
    line.run(arrivals, 7.0)
    played = line.played()
    assert played == sorted(set(played))
    last = played[-1]
    first = min(arrivals, key=lambda number: arrivals[number])
    assert line.position(last) == (last - min(first, played[0])) * PACKET + line.buffer.owed


@pytest.mark.parametrize("wrong", [{"least_wait": 0.0}, {"most_wait": 0.2}, {"fill_most": 3.0}, {"frame": 0.0}])
def test_impossible_settings_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must hold"):
        JitterSettings(**wrong)


def test_jitter_is_that_of_the_rtp_specification() -> None:
    """RFC 3550 section 6.4.1: a sixteenth of how much each difference in transit exceeds what is known so far."""
    line = Line()
    line.run({number: number * 0.02 for number in range(50)}, 1.2)
    assert line.buffer.counts.jitter == pytest.approx(0.0, abs=0.001)
    shaken = Line()
    shaken.run({number: number * 0.02 + 0.008 * (number % 2) for number in range(200)}, 4.2)
    assert shaken.buffer.counts.jitter == pytest.approx(0.008, abs=0.001)
