import pytest

from services.agent.waterfall import STAGES, Waterfall


def test_milliseconds_from_the_end_of_speech_in_order_of_the_stages() -> None:
    waterfall = Waterfall(3, speech_end=10.0)
    waterfall.mark("first_packet", 10.9)
    waterfall.mark("turn_decided", 10.2504)
    assert waterfall.milliseconds() == {"turn_decided": 250.4, "first_packet": 900.0}
    assert list(waterfall.milliseconds()) == ["turn_decided", "first_packet"]


def test_only_the_first_mark_counts() -> None:
    waterfall = Waterfall(1, 0.0)
    waterfall.mark(STAGES[2], 1.0)
    waterfall.mark(STAGES[2], 2.0)
    assert waterfall.milliseconds() == {STAGES[2]: 1000.0}


def test_an_unknown_stage_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown stage 'lunch'"):
        Waterfall(1, 0.0).mark("lunch", 1.0)
