import grpc
import pytest

from services.agent.replicas.failures import ModelError
from services.agent.replicas.retry import ATTEMPTS, RetryBudget, attempts


def failure(code: grpc.StatusCode) -> ModelError:
    return ModelError("lm", code, "no")


async def at_once(_: float) -> None:
    """No pause."""


async def tried(error: Exception, budget: RetryBudget, until: bool = False) -> int:
    """How often something is tried that always fails."""
    count = 0

    async def fails() -> None:
        nonlocal count
        count += 1
        raise error

    with pytest.raises(type(error)):
        await attempts(budget, lambda: until, at_once)(fails)
    return count


async def test_what_another_may_do_better_is_tried_so_often() -> None:
    assert await tried(failure(grpc.StatusCode.UNAVAILABLE), RetryBudget()) == ATTEMPTS
    assert await tried(failure(grpc.StatusCode.INTERNAL), RetryBudget()) == ATTEMPTS
    assert await tried(failure(grpc.StatusCode.UNAVAILABLE), RetryBudget(), until=True) == 1


async def test_what_is_wrong_everywhere_and_what_is_no_models_failure_is_tried_once() -> None:
    assert await tried(failure(grpc.StatusCode.INVALID_ARGUMENT), RetryBudget()) == 1
    assert await tried(failure(grpc.StatusCode.OUT_OF_RANGE), RetryBudget()) == 1
    assert await tried(ValueError("a bug"), RetryBudget()) == 1


async def test_when_all_fails_retries_end_until_something_succeeds_again() -> None:
    budget = RetryBudget()
    count = 0
    while await tried(failure(grpc.StatusCode.UNAVAILABLE), budget) > 1:
        count += 1
        assert count < 100
    assert count == 100 // ATTEMPTS
    for _ in range(6):
        budget.success()
    assert await tried(failure(grpc.StatusCode.UNAVAILABLE), budget) == 2
