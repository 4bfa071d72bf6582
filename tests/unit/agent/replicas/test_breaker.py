import pytest

from services.agent.replicas.breaker import FAILURES, FIRST_REST_S, LONGEST_REST_S, Breaker


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def opened(clock: Clock) -> Breaker:
    breaker = Breaker(clock)
    for _ in range(FAILURES):
        assert breaker.closed
        breaker.failure()
    assert not breaker.closed
    return breaker


def test_failures_with_successes_between_them_leave_it_closed(clock: Clock) -> None:
    breaker = Breaker(clock)
    for _ in range(10):
        for _ in range(FAILURES - 1):
            breaker.failure()
        breaker.success()
    assert breaker.closed
    assert not breaker.may_probe(), "there is nothing to probe"


def test_it_opens_rests_and_lets_one_probe_through(clock: Clock) -> None:
    breaker = opened(clock)
    assert not breaker.may_probe()
    clock.now += FIRST_REST_S
    assert breaker.may_probe()
    assert not breaker.may_probe(), "one at a time"
    breaker.success()
    assert breaker.closed


def test_each_probe_that_fails_doubles_the_rest_up_to_the_longest(clock: Clock) -> None:
    breaker = opened(clock)
    rest = FIRST_REST_S
    for _ in range(8):
        clock.now += rest
        assert breaker.may_probe()
        breaker.failure()
        rest = min(2 * rest, LONGEST_REST_S)
        clock.now += rest - 0.01
        assert not breaker.may_probe()
        clock.now += 0.01 - rest
    clock.now += LONGEST_REST_S
    assert breaker.may_probe()


def test_a_probe_of_which_nothing_is_heard_is_followed_by_another(clock: Clock) -> None:
    breaker = opened(clock)
    clock.now += FIRST_REST_S
    assert breaker.may_probe()
    clock.now += FIRST_REST_S
    assert breaker.may_probe()
