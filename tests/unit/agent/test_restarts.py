import pytest

from services.agent.legs.sip_workers.restarts import Restarts


def test_each_quick_death_is_answered_later_up_to_a_limit() -> None:
    restarts = Restarts(first_delay_s=0.1, longest_delay_s=1.0)
    assert [restarts.died(lived_s=1.0) for _ in range(6)] == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.0, 1.0])


def test_a_process_that_lived_long_is_back_at_once() -> None:
    restarts = Restarts(first_delay_s=0.1, steady_s=60.0)
    for _ in range(5):
        restarts.died(lived_s=1.0)
    assert restarts.died(lived_s=60.0) == 0.1


def test_starts_that_fail_in_a_row_use_up_the_budget() -> None:
    restarts = Restarts(first_delay_s=0.1, budget=3)
    assert restarts.died(lived_s=1.0) == 0.1
    assert [restarts.start_failed() for _ in range(3)] == [0.2, 0.4, None]


def test_a_start_that_works_renews_the_budget() -> None:
    restarts = Restarts(budget=2)
    for _ in range(5):
        restarts.died(lived_s=1.0)
        assert restarts.start_failed() is not None
