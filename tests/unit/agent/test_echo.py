"""The clocks of the echo canceller. That it cancels is heard in tests/integration/test_turn_taking.py."""

from itertools import pairwise
from random import Random

import numpy as np
import pytest

from services.agent.echo import DELAY, EchoRemover, HeardClock, PlayedLine, place
from services.agent.legs.base import INPUT_RATE

PACKET = 320
T0 = 1000.0


def packet(value: int, samples: int = PACKET) -> bytes:
    return np.full(samples, value, np.int16).tobytes()


def test_packets_sent_ahead_sound_one_after_the_other() -> None:
    line = PlayedLine()
    for value in (1, 2, 3):
        line.packet(T0, packet(value), INPUT_RATE)
    heard = line.take(place(T0) - 100, 1160)
    assert heard.tolist() == [0] * 100 + [1] * 320 + [2] * 320 + [3] * 320 + [0] * 100


def test_a_pause_between_packets_stays_a_pause() -> None:
    line = PlayedLine()
    line.packet(T0, packet(1), INPUT_RATE)
    line.packet(T0 + 0.1, packet(2), INPUT_RATE)
    heard = line.take(place(T0), 1920)
    assert heard.tolist() == [1] * 320 + [0] * 1280 + [2] * 320


def test_what_is_taken_in_pieces_is_what_is_taken_at_once() -> None:
    whole, pieces = PlayedLine(), PlayedLine()
    rng = np.random.default_rng(1)
    for number in range(20):
        samples = rng.integers(-9000, 9000, PACKET).astype(np.int16).tobytes()
        for line in (whole, pieces):
            line.packet(T0 + 0.02 * (number // 3), samples, INPUT_RATE)
    expected = whole.take(place(T0), 6400)
    got = [pieces.take(place(T0) + start, 160) for start in range(0, 6400, 160)]
    assert np.array_equal(np.concatenate(got), expected)


def test_a_leg_that_falls_behind_is_followed() -> None:
    line = PlayedLine()
    for number in range(10):
        line.packet(T0 + 0.02 * number, packet(1), INPUT_RATE, unsent_s=0.02 * (number % 2))
    assert line.end == place(T0 + 0.2), "the count goes by packets: up and down is no delay"
    line.packet(T0 + 0.2, packet(2), INPUT_RATE, unsent_s=0.3)
    assert line.take(place(T0 + 0.5), 320).tolist() == [2] * 320


def test_an_interruption_drops_all_but_the_packet_under_way() -> None:
    line = PlayedLine()
    for value in range(1, 6):
        line.packet(T0, packet(value), INPUT_RATE)
    line.drop_unheard(T0 + 0.03)
    assert line.end == place(T0 + 0.05)
    assert line.take(place(T0), 1600).tolist() == [1] * 320 + [2] * 320 + [3] * 160 + [0] * 800
    line.packet(T0 + 1.0, packet(9), INPUT_RATE)
    assert line.take(place(T0 + 1.0), 320).tolist() == [9] * 320


@pytest.mark.parametrize("rate", [8000, 48000])
def test_any_rate_is_played_for_as_long_as_it_lasts(rate: int) -> None:
    line = PlayedLine()
    tone = (9000 * np.sin(2 * np.pi * 440 * np.arange(rate) / rate)).astype(np.int16)
    for start in range(0, rate, rate // 50):
        line.packet(T0, tone[start : start + rate // 50].tobytes(), rate)
    heard = line.take(place(T0), INPUT_RATE).astype(float)
    assert line.end - place(T0) == pytest.approx(INPUT_RATE, abs=INPUT_RATE // 500)
    spectrum = np.abs(np.fft.rfft(heard * np.hanning(len(heard))))
    assert np.argmax(spectrum) == pytest.approx(440, abs=1)
    assert np.sqrt((heard[2000:14000] ** 2).mean()) == pytest.approx(9000 / np.sqrt(2), rel=0.02)


def test_what_nobody_takes_does_not_pile_up() -> None:
    line = PlayedLine()
    for number in range(500):
        line.packet(T0 + number * 0.02, packet(1), INPUT_RATE)
    begin = place(T0)
    assert np.count_nonzero(line.take(begin, 10 * INPUT_RATE)) <= 2.1 * INPUT_RATE


@pytest.mark.parametrize("seed", range(10))
def test_audio_that_arrives_in_bursts_was_heard_in_one_go(seed: int) -> None:
    rng = Random(seed)
    clock = HeardClock()
    clock.begin(T0 + 0.02, PACKET)
    busy_until, places = 0.0, []
    for number in range(1, 300):
        due = T0 + 0.02 * (number + 1)
        if rng.random() < 0.05:
            busy_until = due + rng.uniform(0.05, 0.3)
        places.append(clock.begin(max(due, busy_until), PACKET))
    assert {after - before for before, after in pairwise(places)} == {PACKET}
    assert places[0] == pytest.approx(place(T0 + 0.02), abs=2)


def test_audio_after_a_hole_is_placed_after_the_hole() -> None:
    clock = HeardClock()
    for number in range(50):
        clock.begin(T0 + 0.02 * (number + 1), PACKET)
    for number in range(60):
        begin = clock.begin(T0 + 5.0 + 0.02 * (number + 1), PACKET)
    assert begin == pytest.approx(place(T0 + 5.0 + 0.02 * 59), abs=2)


def test_audio_that_came_late_at_first_is_placed_by_what_comes_in_time() -> None:
    clock = HeardClock()
    clock.begin(T0 + 0.2, PACKET)
    begin = clock.begin(T0 + 0.04, PACKET)
    assert begin == place(T0 + 0.02)


@pytest.mark.parametrize("piece", [64, 160, 320, 441])
def test_while_the_bot_is_silent_the_callers_audio_is_only_late(piece: int) -> None:
    remover = EchoRemover(PlayedLine())
    audio = np.random.default_rng(2).integers(-20000, 20000, 8000).astype(np.int16)
    out = b"".join(
        remover.remove(T0 + (start + piece) / INPUT_RATE, audio[start : start + piece].tobytes())
        for start in range(0, len(audio), piece)
    )
    heard = np.frombuffer(out, np.int16)
    assert len(heard) >= len(audio) - 160
    assert np.array_equal(heard[DELAY:], audio[: len(heard) - DELAY])


def test_the_bots_voice_is_gone_and_the_callers_is_not() -> None:
    """Bursts of noise as the bot, their echo at -12 dB after 80 ms, and from the fifth second on a caller's tone."""
    line = PlayedLine()
    remover = EchoRemover(line)
    rng = np.random.default_rng(3)
    syllables = np.sin(2 * np.pi * 3 * np.arange(10 * INPUT_RATE) / INPUT_RATE).clip(0, 1)
    bot = (rng.normal(0, 3000, 10 * INPUT_RATE) * syllables).astype(np.int16)
    echo = np.concatenate([np.zeros(1280), bot[:-1280] * 0.25])
    tone = 3000 * np.sin(2 * np.pi * 700 * np.arange(len(bot)) / INPUT_RATE) * (np.arange(len(bot)) > 5 * INPUT_RATE)
    near = (echo + tone).astype(np.int16)
    out = []
    for start in range(0, len(bot), PACKET):
        now = T0 + start / INPUT_RATE
        line.packet(now, bot[start : start + PACKET].tobytes(), INPUT_RATE)
        out.append(remover.remove(now + 0.02, near[start : start + PACKET].tobytes()))
    heard = np.frombuffer(b"".join(out), np.int16).astype(float)

    def level(signal: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> float:
        return float(20 * np.log10(np.sqrt((signal**2).mean())))

    alone = slice(2 * INPUT_RATE, 5 * INPUT_RATE)
    assert level(near[alone].astype(float)) - level(heard[alone]) > 18.0
    spectrum = np.abs(np.fft.rfft(heard[6 * INPUT_RATE : 9 * INPUT_RATE] * np.hanning(3 * INPUT_RATE)))
    assert np.argmax(spectrum) == 3 * 700
