import pytest

from services.agent.admission import FIRST_GUESS_S, LONGEST_S, Admission, RetryAfter
from services.common.errors import AtCapacityError, DrainingError
from services.common.grpc_server import Slots


def middle() -> float:
    return 0.5


def test_those_refused_come_back_one_after_the_other() -> None:
    policy = RetryAfter(10, middle)
    assert [policy.when_full(100.0) for _ in range(3)] == [6, 12, 18]
    assert policy.when_full(109.0) == 15, "nine seconds have passed of those that the others wait"
    assert policy.when_full(1000.0) == 6, "they have all been here by now"


def test_nobody_is_sent_away_for_longer_than_a_minute() -> None:
    policy = RetryAfter(1, middle)
    assert {policy.when_full(0.0) for _ in range(50)} == {LONGEST_S}
    assert policy.when_full(LONGEST_S + 1.0) == LONGEST_S


def test_long_calls_make_for_long_waits_and_short_ones_for_a_second_at_least() -> None:
    policy = RetryAfter(4, middle)
    before = policy.when_full(0.0)
    for _ in range(100):
        policy.call_over(FIRST_GUESS_S * 3)
    assert policy.when_full(1e6) > 2 * before
    for _ in range(200):
        policy.call_over(0.5)
    assert policy.when_full(2e6) == 1


@pytest.mark.parametrize(("chance", "told"), [(0.0, 30), (0.5, 40), (1.0, 50)])
def test_chance_spreads_them(chance: float, told: int) -> None:
    assert RetryAfter(1, lambda: chance).about(40.0) == told


def admission(capacity: int = 2) -> tuple[Admission, Slots, list[float]]:
    slots, now = Slots(capacity, "calls"), [0.0]
    return Admission(slots, lambda: now[0], middle), slots, now


def test_a_place_is_given_back_once() -> None:
    desk, slots, _ = admission()
    one, _other = desk.enter(), desk.enter()
    with pytest.raises(AtCapacityError) as full:
        desk.enter()
    assert desk.refusal(full.value).retry_after_s == 30
    one.leave()
    one.leave(talked=True)
    assert slots.active == 1
    _third = desk.enter()
    assert slots.active == 2


def test_only_calls_that_were_talked_in_count_for_the_mean() -> None:
    desk, _, now = admission(1)
    for talked in [False] * 100:
        desk.enter().leave(talked)
    with_nobody = desk.no_room("no room").retry_after_s
    for _ in range(100):
        place = desk.enter()
        now[0] += 2.0
        place.leave(talked=True)
    now[0] += 1000.0
    assert (with_nobody, desk.no_room("no room").retry_after_s) == (60, 2)


def test_who_comes_while_the_agent_drains_is_told_when_it_may_be_back() -> None:
    desk, slots, _ = admission()
    slots.draining = True
    with pytest.raises(DrainingError) as draining:
        desk.enter()
    refusal = desk.refusal(draining.value)
    assert refusal.retry_after_s == 10
    assert "draining" in refusal.reason
    assert desk.fault("broken").retry_after_s == 5
