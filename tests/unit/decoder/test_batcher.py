from services.decoder.batcher import Due, choose

STEADY = 690  # frames of a block of 50 tokens after 50 of history
FIRST = 68


def steady(number: int, runs_out: float, frames: int = STEADY) -> Due:
    return Due(frames, False, runs_out, number)


def first(number: int) -> Due:
    return Due(FIRST, True, 1e9, number)


def test_nothing_due() -> None:
    assert choose([]) == []


def test_whose_audio_runs_out_first_comes_first() -> None:
    due = [steady(0, 9.0), steady(1, 7.0), steady(2, 8.0)]
    assert choose(due, STEADY) == [1]
    assert choose(due, 2 * STEADY) == [1, 2]
    assert choose(due, 3 * STEADY) == [1, 2, 0]


def test_who_waits_in_silence_comes_before_all_and_waits_for_no_long_block() -> None:
    due = [steady(0, 0.0), first(1), steady(2, 0.0), first(3)]
    assert choose(due, 100 * STEADY) == [1, 3]


def test_the_budget_counts_padding() -> None:
    due = [steady(0, 1.0, 400), steady(1, 2.0, 600), steady(2, 3.0, 400), steady(3, 4.0, 400)]
    assert choose(due, 1200) == [0, 1]
    assert choose(due, 1800) == [0, 1, 2]
    assert choose(due, 1799) == [0, 1]


def test_one_block_over_the_budget_is_still_computed() -> None:
    assert choose([steady(0, 1.0)], 10) == [0]


def test_less_than_half_is_padding() -> None:
    due = [steady(0, 1.0, 300), steady(1, 2.0, 601), steady(2, 3.0, 600), steady(3, 4.0, 299)]
    assert choose(due, 10_000) == [0, 2]  # 299 fits 300 but not 600


def test_equal_urgency_keeps_the_order() -> None:
    assert choose([first(5), first(3), first(4)], 10_000) == [1, 2, 0]


def test_what_needs_no_flow_is_taken_in_its_turn() -> None:
    due = [steady(0, 2.0), steady(1, 1.0, frames=0), steady(2, 1.5, frames=0)]
    assert choose(due, 10_000) == [1, 2]
