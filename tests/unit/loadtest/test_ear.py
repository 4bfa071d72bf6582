"""Audio with known faults, and what is measured of it."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from loadtest.calls.ear import Ear
from loadtest.calls.kept import Heard
from loadtest.calls.record import Asked, Call
from loadtest.calls.voices import opus
from loadtest.ear import speech
from loadtest.ear.measure import measure
from loadtest.ear.playout import DELAY_S, listen, play_times
from loadtest.scenario.plan import PlannedCall
from loadtest.scenario.questions import questions, spoken
from loadtest.sip.rtp import is_loud
from loadtest.sip.talker import to_mu_law

ROOT = Path(__file__).resolve().parents[3]
Pcm = npt.NDArray[np.int16]
BEGAN = 1000.0


def voice(seconds: float, rate: int = 8000, level: float = 6000.0) -> Pcm:
    """A vowel: harmonics of 120 Hz, and a little noise."""
    time = np.arange(round(seconds * rate)) / rate
    wave = sum(np.cos(2 * np.pi * 120 * n * time + n * n) / n for n in range(1, 12))
    noise = np.random.default_rng(1).normal(0, 30, len(time))
    return np.asarray(level * wave / 2 + noise, np.float64).clip(-32768, 32767).astype(np.int16)


def faded(pcm: Pcm, rate: int = 8000) -> Pcm:
    """It begins and dies away as a voice does."""
    width = rate // 10
    gain = np.ones(len(pcm))
    gain[:width] = np.sin(np.linspace(0, np.pi / 2, width)) ** 2
    gain[-width:] = gain[:width][::-1]
    return np.asarray(pcm * gain, np.int16)


def nothing(seconds: float, rate: int = 8000) -> Pcm:
    return np.zeros(round(seconds * rate), np.int16)


def heard(
    pcm: Pcm, at: float = BEGAN, late: dict[int, float] | None = None, lost: frozenset[int] = frozenset()
) -> Heard:
    """Mu-law packets, each 20 ms after the other."""
    ear = Ear("pcmu")
    for number in range(len(pcm) // 160):
        if number in lost:
            continue
        payload = to_mu_law(pcm[160 * number : 160 * (number + 1)])
        arrived = at + 0.02 * number + (late or {}).get(number, 0.0)
        ear.hear(arrived, number + 65_500 & 0xFFFF, 160 * number, payload, is_loud(payload))
    return Heard.of(ear)


def call(*asked: Asked, ended: float = BEGAN + 60) -> Call:
    return Call(PlannedCall(0, "sip", "", "", ()), BEGAN, ended=ended, answered_at=BEGAN, asked=list(asked))


def test_what_was_kept_comes_back(tmp_path: Path) -> None:
    made = heard(voice(0.2))
    made.save(tmp_path / "0.npz")
    back = Heard.load(tmp_path / "0.npz")
    assert back.codec == made.codec
    assert back.payload == made.payload
    assert np.array_equal(back.arrived, made.arrived)
    assert np.array_equal(back.timestamp, made.timestamp)


def test_packets_in_time_are_played_as_they_were_sent() -> None:
    sound = listen(heard(voice(1.0), late={3: 0.05})).sound
    assert sound.begin == BEGAN + DELAY_S
    original, played = voice(1.0).astype(float), sound.pcm[:8000].astype(float)
    assert np.abs(original - played).max() < 0.05 * np.abs(original).max()  # what mu-law makes of it


def test_a_packet_too_late_is_a_hole_and_the_rest_follows_it() -> None:
    sound = listen(heard(voice(1.0), late=dict.fromkeys(range(25, 50), 0.2))).sound
    [gap] = speech.gaps(sound.pcm[: round(1.14 * 8000)], 8000)
    assert gap.at_s == pytest.approx(0.5, abs=0.01)
    assert gap.seconds == pytest.approx(0.2 - DELAY_S, abs=0.01)


def test_what_a_stall_delayed_is_made_good_in_silence() -> None:
    loud = np.array([True] * 10 + [False] * 20 + [True] * 10)
    media = 0.02 * np.arange(40, dtype=np.float64)
    arrived = media + np.where(np.arange(40) == 5, 0.3, 0.0)
    times = np.array(play_times(arrived, media, loud, 0.06))
    assert times[9] - arrived[9] > 0.2
    assert times[39] - arrived[39] == pytest.approx(0.06, abs=0.001)
    assert (np.diff(times) >= 0).all()


def test_a_new_clock_of_the_sender_is_no_hole_of_hours() -> None:
    steps = 0.02 * np.arange(20, dtype=np.float64)
    media = np.asarray(np.where(steps < 0.19, steps, steps + 5000.0), np.float64)
    times = play_times(steps, media, np.ones(20, bool), 0.06)
    assert times[-1] == pytest.approx(0.02 * 19 + 0.06)


def test_nothing_was_heard() -> None:
    assert len(listen(Heard.of(Ear("pcmu"))).sound.pcm) == 0
    found = measure(call(Asked("q", said_from=BEGAN, said_until=BEGAN + 1)), Heard.of(Ear("opus")), BEGAN)
    assert found.answers[0].first_audio_s is None
    assert found.speech == (None,)


@pytest.mark.parametrize("seconds", [0.05, 0.2, 0.9])
def test_a_voice_that_is_cut_off_is_a_gap(seconds: float) -> None:
    pcm = np.concatenate([voice(0.5), nothing(seconds), voice(0.5)])
    [gap] = speech.gaps(pcm, 8000)
    assert gap.at_s == pytest.approx(0.5, abs=0.01)
    assert gap.seconds == pytest.approx(seconds, abs=0.01)


def test_a_voice_that_pauses_is_none() -> None:
    assert speech.gaps(np.concatenate([faded(voice(0.5)), nothing(0.5), faded(voice(0.5))]), 8000) == []
    assert speech.gaps(voice(1.0), 8000) == []
    assert speech.gaps(np.concatenate([voice(0.5), nothing(0.03), voice(0.5)]), 8000) == []  # less than two packets


def test_a_pause_of_a_second_is_one_gap_however_it_begins() -> None:
    for piece in (voice(0.5), faded(voice(0.5))):
        [gap] = speech.gaps(np.concatenate([piece, nothing(1.5), piece]), 8000)
        assert gap.seconds == pytest.approx(1.5, abs=0.15)


@pytest.mark.parametrize("rate", [8000, 16_000])
def test_a_jump_is_a_click_and_speech_is_none(rate: int) -> None:
    smooth = (8000 * np.sin(2 * np.pi * 150 * np.arange(rate) / rate)).astype(np.int16)
    assert speech.clicks(smooth, rate) == []
    place = rate // 2 + 13
    jumps = np.concatenate([smooth[:place], np.roll(smooth, rate // 300)[place:]])  # half a period is missing
    [at] = speech.clicks(jumps, rate)
    assert at == pytest.approx(place / rate, abs=0.001)
    assert speech.clicks(smooth[:100], rate) == []


def test_recorded_speech_has_hardly_a_click_and_no_gap() -> None:
    clicks = seconds = 0.0
    for question in questions(ROOT / "samples"):
        wave = spoken(question).wave
        pcm = (wave * 32767).astype(np.int16)
        clicks += len(speech.clicks(pcm, 16_000))
        seconds += len(pcm) / 16_000
        assert speech.gaps(pcm, 16_000) == []
    assert clicks <= seconds / 10


def test_when_sounds_came() -> None:
    loud = np.array([1.0, 1.02, 1.04, 2.0, 2.02, 9.0])
    assert speech.first_sound(loud, 1.04) == 2.0
    assert speech.first_sound(loud, 9.0) is None
    assert speech.last_sound(loud, 1.5, 8.0) == 2.02
    assert speech.last_sound(loud, 3.0, 8.0) is None
    assert speech.falls_silent(loud, 1.0, 1.5) == 1.04
    assert speech.falls_silent(loud, 1.9, 2.5) == 2.02
    assert speech.falls_silent(np.arange(0, 10, 0.02), 1.0, 3.0) is None  # it speaks on and on
    assert speech.falls_silent(np.zeros(0), 1.0, 3.0) is None


def test_an_answer_and_its_figures() -> None:
    answer = np.concatenate([faded(voice(1.0)), faded(voice(0.6))])
    pcm = np.concatenate([nothing(3.0), answer, nothing(2.0)])
    found = measure(
        call(Asked("q", said_from=BEGAN + 1, said_until=BEGAN + 2.5, quiet_at=BEGAN + 6)), heard(pcm), BEGAN - 5
    )
    [one] = found.answers
    assert one.first_audio_s == pytest.approx(0.5, abs=0.03)
    assert one.asked_at == pytest.approx(6)
    assert one.spoken_s == pytest.approx(1.6, abs=0.05)
    assert (one.whole, one.overlapped, one.gaps, one.stop_s) == (True, False, (), None)
    assert found.speech[0] is not None
    assert found.rtp.lost == 0


def test_losses_are_heard_and_counted() -> None:
    pcm = np.concatenate([nothing(1.0), faded(voice(2.0)), nothing(1.0)])
    asked = Asked("q", said_from=BEGAN + 0.1, said_until=BEGAN + 0.8, quiet_at=BEGAN + 4)
    found = measure(call(asked), heard(pcm, lost=frozenset(range(100, 104))), BEGAN)
    assert found.rtp.lost == 4
    assert [gap.seconds for gap in found.answers[0].gaps] == [pytest.approx(0.08, abs=0.01)]


def test_a_barge_in_stops_the_bot() -> None:
    first, second = faded(voice(2.0)), faded(voice(1.0))
    pcm = np.concatenate([nothing(1.0), first, nothing(2.0), second, nothing(1.0)])
    before = Asked("q", said_from=BEGAN, said_until=BEGAN + 0.8)
    after = Asked("r", barges_in=True, said_from=BEGAN + 2.6, said_until=BEGAN + 4.2, quiet_at=BEGAN + 7)
    one, other = measure(call(before, after), heard(pcm), BEGAN).answers
    assert other.stop_s == pytest.approx(0.4, abs=0.05)  # its last sound came at 3.0 s, less the dying away
    assert not one.whole
    assert other.whole
    assert other.first_audio_s == pytest.approx(0.8, abs=0.04)


def test_a_bot_that_speaks_on_is_not_silenced() -> None:
    pcm = np.concatenate([nothing(1.0), voice(8.0), nothing(1.0)])
    before = Asked("q", said_from=BEGAN, said_until=BEGAN + 0.8)
    after = Asked("r", barges_in=True, said_from=BEGAN + 2.6, said_until=BEGAN + 4.0)
    assert measure(call(before, after), heard(pcm), BEGAN).answers[1].stop_s is None


def test_a_question_into_the_bots_words_is_no_figure() -> None:
    pcm = np.concatenate([voice(1.5), nothing(1.0), faded(voice(1.0)), nothing(1.0)])
    asked = Asked("q", said_from=BEGAN + 1, said_until=BEGAN + 2, quiet_at=BEGAN + 4)
    [one] = measure(call(asked), heard(pcm), BEGAN).answers
    assert one.overlapped
    assert not one.whole


def test_opus_is_heard_too() -> None:
    wave = faded(voice(1.0, 48_000), 48_000).astype(np.float32) / 32768
    ear = Ear("opus")
    for number, payload in enumerate(opus(np.concatenate([np.zeros(48_000, np.float32), wave]))):
        ear.hear(BEGAN + 0.02 * number, number, 960 * number, payload, number >= 52)
    asked = Asked("q", said_from=BEGAN + 0.1, said_until=BEGAN + 0.9, quiet_at=BEGAN + 3)
    [one] = measure(call(asked), Heard.of(ear), BEGAN).answers
    assert one.first_audio_s == pytest.approx(0.12, abs=0.05)
    assert one.spoken_s == pytest.approx(1.0, abs=0.1)
    assert one.gaps == ()
