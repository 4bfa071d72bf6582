from dataclasses import replace
from random import Random

import pytest

from services.agent.turns import EventKind, TurnEvent, TurnMachine, TurnSettings, for_persona

SETTINGS = TurnSettings(pause_s=0.0)  # nothing is begun in a pause
EAGER = TurnSettings()
WINDOW = SETTINGS.window_s


class Line:
    """Feeds windows on a clock of its own."""

    def __init__(self, settings: TurnSettings = SETTINGS, may_barge_in: bool = True) -> None:
        self.machine = TurnMachine(settings, may_barge_in)
        self.now = 100.0
        self.events: list[TurnEvent] = []

    def hear(self, seconds: float, confidence: float) -> list[TurnEvent]:
        fresh: list[TurnEvent] = []
        for _ in range(round(seconds / WINDOW)):
            self.now += WINDOW
            fresh += self.machine.window(self.now, confidence)
        self.events += fresh
        return fresh

    @property
    def kinds(self) -> list[EventKind]:
        return [event.kind for event in self.events]


def test_silence_opens_nothing() -> None:
    line = Line()
    line.hear(5.0, 0.02)
    assert line.events == []


def test_speech_opens_a_turn_and_says_how_long_it_runs_already() -> None:
    line = Line()
    line.hear(1.0, 0.02)
    (event,) = line.hear(0.4, 0.9)
    assert event.kind is EventKind.OPENED
    assert event.run_s == pytest.approx(SETTINGS.open_s, abs=WINDOW)
    assert line.machine.is_open


def test_a_click_opens_nothing() -> None:
    line = Line()
    for _ in range(20):
        line.hear(WINDOW, 0.95)
        line.hear(0.2, 0.05)
    assert line.events == []


def test_a_short_dip_does_not_break_the_run() -> None:
    line = Line()
    line.hear(2 * WINDOW, 0.9)
    line.hear(WINDOW, 0.1)
    (event,) = line.hear(WINDOW, 0.9)
    assert event.kind is EventKind.OPENED
    assert event.run_s == pytest.approx(4 * WINDOW)


def test_a_pause_asks_and_a_complete_verdict_ends_the_turn() -> None:
    line = Line()
    line.hear(1.0, 0.9)
    spoke_until = line.now
    line.hear(0.25, 0.05)
    assert line.kinds == [EventKind.OPENED, EventKind.ASK]
    (end,) = line.machine.verdict(line.now + 0.06, line.events[-1].ask_id, complete=True)
    assert end.kind is EventKind.ENDED
    assert end.speech_end == spoke_until
    assert end.at == line.now + 0.06
    assert not line.machine.is_open


def test_an_incomplete_verdict_leaves_the_turn_open_and_the_pause_is_asked_about_again() -> None:
    line = Line()
    line.hear(1.0, 0.9)
    line.hear(0.25, 0.05)
    assert line.machine.verdict(line.now, line.events[-1].ask_id, complete=False) == []
    line.hear(0.5, 0.05)
    assert line.kinds == [EventKind.OPENED, EventKind.ASK, EventKind.ASK]
    line.hear(SETTINGS.max_silence_s, 0.05)
    assert line.kinds[-1] is EventKind.ENDED
    assert line.kinds.count(EventKind.ENDED) == 1


def test_a_verdict_on_a_pause_that_is_over_is_ignored() -> None:
    line = Line()
    line.hear(1.0, 0.9)
    line.hear(0.25, 0.05)
    asked = line.events[-1].ask_id
    line.hear(0.3, 0.9)
    assert line.machine.verdict(line.now, asked, complete=True) == []
    line.hear(0.25, 0.05)
    assert line.machine.verdict(line.now, asked, complete=True) == []
    assert line.machine.is_open
    assert line.machine.verdict(line.now, line.events[-1].ask_id, complete=True)[0].kind is EventKind.ENDED


def test_a_verdict_after_the_end_is_ignored() -> None:
    line = Line()
    line.hear(1.0, 0.9)
    line.hear(0.25, 0.05)
    asked = line.events[-1].ask_id
    assert line.machine.verdict(line.now, asked, complete=True)
    assert line.machine.verdict(line.now, asked, complete=True) == []


def test_soft_word_ends_hold_a_turn_but_do_not_open_one() -> None:
    line = Line()
    line.hear(2.0, 0.45)
    assert line.events == []
    line.hear(0.5, 0.9)
    line.hear(2.0, 0.45)
    assert line.kinds == [EventKind.OPENED]


def test_barging_in_takes_longer_speech() -> None:
    line = Line()
    line.machine.bot_speaks(True)
    line.hear(0.55, 0.9)
    assert line.events == []
    (event,) = line.hear(0.1, 0.9)
    assert event.kind is EventKind.BARGED_IN
    assert event.run_s >= SETTINGS.barge_in_s - 1e-9


@pytest.mark.parametrize("seconds", [0.1, 0.3, 0.45, 0.57])
def test_a_short_sound_over_the_bot_is_a_back_channel(seconds: float) -> None:
    line = Line()
    line.machine.bot_speaks(True)
    for _ in range(3):
        line.hear(seconds, 0.9)
        line.hear(2.0, 0.05)
    assert line.kinds == [EventKind.BACK_CHANNEL] * 3
    assert not line.machine.is_open


def test_a_click_over_the_bot_is_nothing() -> None:
    line = Line()
    line.machine.bot_speaks(True)
    line.hear(WINDOW, 0.9)
    line.hear(2.0, 0.05)
    assert line.events == []


def test_who_says_a_short_word_twice_means_it() -> None:
    line = Line()
    line.machine.bot_speaks(True)
    line.hear(0.35, 0.9)
    line.hear(0.5, 0.05)
    (event,) = line.hear(0.35, 0.9)
    assert event.kind is EventKind.BARGED_IN
    assert event.run_s > 1.0, "the first word belongs to the turn"


def test_a_short_sound_at_the_end_of_the_bots_speech_is_an_answer_to_it() -> None:
    line = Line()
    line.machine.bot_speaks(True)
    line.hear(0.2, 0.9)
    line.machine.bot_speaks(False)
    line.hear(0.1, 0.9)
    assert line.kinds == [EventKind.OPENED]


@pytest.mark.parametrize(("barge_in", "after_s"), [(True, EAGER.barge_in_s), (200, 0.2), (1500, 1.5), (False, None)])
def test_a_persona_says_when_the_caller_may_interrupt(barge_in: bool | int, after_s: float | None) -> None:
    settings, may_barge_in = for_persona(EAGER, barge_in)
    line = Line(settings, may_barge_in)
    line.machine.bot_speaks(True)
    began = line.now
    line.hear(3.0, 0.9)
    if after_s is None:
        assert line.events == []
    else:
        assert line.events[0].kind is EventKind.BARGED_IN
        assert line.events[0].at - began == pytest.approx(after_s, abs=WINDOW)


def test_a_pause_that_may_be_the_end_is_told_before_the_model_is_asked() -> None:
    line = Line(EAGER)
    line.hear(1.0, 0.9)
    quiet_since = line.now
    line.hear(0.25, 0.05)
    assert line.kinds == [EventKind.OPENED, EventKind.PAUSED, EventKind.ASK]
    assert line.events[1].at - quiet_since == pytest.approx(EAGER.pause_s, abs=WINDOW)
    assert line.machine.verdict(line.now, line.events[-1].ask_id, complete=True)[0].kind is EventKind.ENDED


def test_who_goes_on_takes_back_the_pause() -> None:
    line = Line(EAGER)
    line.hear(1.0, 0.9)
    line.hear(0.25, 0.05)
    line.hear(0.5, 0.9)
    line.hear(0.25, 0.05)
    paused_and_not = [EventKind.PAUSED, EventKind.ASK, EventKind.RESUMED]
    assert line.kinds == [EventKind.OPENED, *paused_and_not, EventKind.PAUSED, EventKind.ASK]


def test_the_closure_of_a_plosive_is_no_pause() -> None:
    line = Line(EAGER)
    for _ in range(5):
        line.hear(0.3, 0.9)
        line.hear(0.096, 0.05)
    assert line.kinds == [EventKind.OPENED]


def test_a_click_has_no_pause() -> None:
    line = Line(replace(EAGER, open_s=0.064, min_speech_s=0.2))
    line.hear(0.1, 0.9)
    line.hear(3.0, 0.05)
    assert EventKind.PAUSED not in line.kinds


@pytest.mark.parametrize("seed", range(40))
def test_whatever_is_heard_events_come_in_an_order_that_makes_sense(seed: int) -> None:
    rng = Random(seed)
    line = Line(EAGER, may_barge_in=rng.random() < 0.8)
    while line.now < 160.0:
        line.machine.bot_speaks(rng.random() < 0.4)
        was_open = line.machine.is_open
        line.hear(rng.choice([WINDOW, 0.1, 0.2, 0.3, 0.7, 2.0]), rng.choice([0.02, 0.02, 0.45, 0.9]))
        asks = [event for event in line.events if event.kind is EventKind.ASK]
        if asks and rng.random() < 0.5:
            line.events += line.machine.verdict(line.now, rng.choice(asks[-2:]).ask_id, rng.random() < 0.7)
        if not was_open and line.machine.is_open:
            assert line.kinds[-1] is not EventKind.BACK_CHANNEL
    is_open = paused = False
    for event in line.events:
        match event.kind:
            case EventKind.OPENED | EventKind.BARGED_IN:
                assert not is_open
                is_open = True
            case EventKind.PAUSED:
                assert is_open
                assert not paused
                paused = True
            case EventKind.RESUMED:
                assert paused
                paused = False
            case EventKind.ENDED:
                assert is_open
                is_open = paused = False
            case EventKind.DROPPED:
                assert is_open
                assert not paused, "what was begun for a turn would be left over"
                is_open = False
            case EventKind.ASK:
                assert is_open
            case EventKind.BACK_CHANNEL:
                assert not is_open
    assert is_open == line.machine.is_open
    assert sum(event.kind is EventKind.ENDED for event in line.events) > 3


def test_without_barge_in_speech_over_the_bot_counts_for_nothing() -> None:
    line = Line(may_barge_in=False)
    line.machine.bot_speaks(True)
    line.hear(3.0, 0.9)
    assert line.events == []
    line.machine.bot_speaks(False)
    (event,) = line.hear(WINDOW, 0.9)
    assert event.kind is EventKind.OPENED


def test_too_little_speech_is_dropped() -> None:
    line = Line(replace(SETTINGS, open_s=0.064, min_speech_s=0.2))
    line.hear(0.1, 0.9)
    line.hear(3.0, 0.05)
    assert line.kinds[0] is EventKind.OPENED
    assert line.kinds[-1] is EventKind.DROPPED
    assert EventKind.ENDED not in line.kinds


def test_the_longest_turn_is_cut() -> None:
    line = Line(replace(SETTINGS, max_turn_s=5.0))
    line.hear(5.1, 0.9)
    assert line.kinds == [EventKind.OPENED, EventKind.ENDED]
    assert line.events[1].at - line.events[0].at == pytest.approx(5.0, abs=0.2)


def test_a_line_that_goes_dead_ends_the_turn() -> None:
    line = Line()
    line.hear(1.0, 0.9)
    assert line.machine.idle(line.now + 0.5) == []
    (event,) = line.machine.idle(line.now + SETTINGS.max_silence_s)
    assert event.kind is EventKind.ENDED
    assert line.machine.idle(line.now + 10) == []


def test_turns_follow_each_other() -> None:
    line = Line()
    for _ in range(3):
        line.hear(1.0, 0.9)
        line.hear(SETTINGS.max_silence_s + 0.1, 0.05)
    assert line.kinds.count(EventKind.OPENED) == 3
    assert line.kinds.count(EventKind.ENDED) == 3


def test_pauses_are_measured_in_audio_not_in_wall_clock() -> None:
    """A machine that was blocked and then gets a second of speech at once has not heard a pause."""
    line = Line()
    line.hear(1.0, 0.9)
    line.now += 3.0
    line.hear(0.1, 0.9)
    assert line.kinds == [EventKind.OPENED]


@pytest.mark.parametrize(
    "wrong",
    [
        {"hold_confidence": 0.9, "speech_confidence": 0.5},
        {"ask_s": 2.0},
        {"max_silence_s": 40.0},
        {"pause_s": 1.5},
        {"barge_in_s": 0.05},
    ],
)
def test_settings_check_themselves(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must hold"):
        TurnSettings(**wrong)
