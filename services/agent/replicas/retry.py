"""Trying again, elsewhere: how often, how soon, and how much of it an agent may do."""

import asyncio
from collections.abc import Awaitable, Callable

from tenacity import (
    AsyncRetrying,
    retry_if_exception,
    stop_after_attempt,
    wait_chain,
    wait_none,
    wait_random_exponential,
)

from services.agent.replicas.failures import ModelError

ATTEMPTS = 5  # of a stream between two signs of life
_TOKENS = 100.0
_RETURN = 0.2


class RetryBudget:
    """Of one stage, over all calls: when everything fails, retries must not make it worse (gRFC A6).

    A failure costs a token; what succeeds gives a part of one back.
    """

    def __init__(self) -> None:
        self._tokens = _TOKENS

    def spend(self) -> bool:
        """Something failed: whether it may be tried again."""
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True

    def success(self) -> None:
        """Something went as it should."""
        self._tokens = min(_TOKENS, self._tokens + _RETURN)


def attempts(
    budget: RetryBudget,
    until: Callable[[], bool] = lambda: False,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> AsyncRetrying:
    """Retries what another replica may do better: at once, then after random, growing pauses.

    Args:
        until: no more is tried once this is true.
    """

    def again(error: BaseException) -> bool:
        return isinstance(error, ModelError) and error.elsewhere and not until() and budget.spend()

    return AsyncRetrying(
        stop=stop_after_attempt(ATTEMPTS),
        wait=wait_chain(wait_none(), wait_random_exponential(multiplier=0.1, max=1.0)),
        retry=retry_if_exception(again),
        sleep=sleep,
        reraise=True,
    )
