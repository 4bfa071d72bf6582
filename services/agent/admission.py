"""Who is let in: one place for each call, and when to come back for those who find none.

A place is held from before the call rings to the moment when nothing is left of it. The places at the model services
are the call's own to reserve; a call that gets none there gives this one back, and is refused in the same way.
"""

import random
import time
from collections.abc import Callable

from services.agent.legs.base import CallRefusedError
from services.common.errors import AtCapacityError, DrainingError, ServiceError
from services.common.grpc_server import Slots

FIRST_GUESS_S = 60.0  # how long a call takes, before any has ended
WEIGHT = 0.1  # of each call that ends, in the mean
LONGEST_S = 60.0
AFTER_FAULT_S = 5.0
AFTER_RESTART_S = 10.0
JITTER = 0.25  # of the time told, either way


class RetryAfter:
    """When callers who are refused should try again: one after the other, at the pace at which places come free.

    With n places and calls of mean length d, a place comes free every d/n. The first who is refused is told that time,
    the next twice that, and so on; were all told the same, all would come back together and be refused again.

    Args:
        places: calls at once.
        chance: 0 to 1; callers are spread by it, since agents know nothing of each other's.
    """

    def __init__(self, places: int, chance: Callable[[], float] = random.random) -> None:
        self._places = places
        self._chance = chance
        self._mean_s = FIRST_GUESS_S
        self._last = 0.0  # when the one refused last is to come

    def call_over(self, seconds: float) -> None:
        """A call took so long."""
        self._mean_s += WEIGHT * (seconds - self._mean_s)

    def when_full(self, now: float) -> int:
        """Seconds for one more who finds no place.

        Args:
            now: of any clock that never goes back, seconds.
        """
        self._last = min(max(self._last, now) + self._mean_s / self._places, now + LONGEST_S)
        return self.about(self._last - now)

    def about(self, seconds: float) -> int:
        """So many seconds, give or take some by chance, and at least one."""
        return max(1, round(seconds * (1.0 + JITTER * (2.0 * self._chance() - 1.0))))


class Place:
    """One call's place; `leave` gives it back, however often it is called."""

    def __init__(self, slots: Slots, taken_at: float, on_over: Callable[["Place"], None]) -> None:
        self._slots = slots.take()
        self._slots.__enter__()
        self.taken_at = taken_at
        self._on_over = on_over
        self._left = False

    def leave(self, talked: bool = False) -> None:
        """The call is over, or when not `talked` it never came about."""
        if not self._left:
            self._left = True
            self._slots.__exit__(None, None, None)
            if talked:
                self._on_over(self)


class Admission:
    """The places of one agent.

    Args:
        slots: counts them.
        clock: monotonic, seconds.
        chance: see `RetryAfter`.
    """

    def __init__(
        self,
        slots: Slots,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._slots = slots
        self._clock = clock
        self._retry = RetryAfter(slots.capacity, chance)

    def enter(self) -> Place:
        """A place.

        Raises:
            AtCapacityError: there is none.
            DrainingError: the agent takes no more calls.
        """
        return Place(self._slots, self._clock(), self._over)

    def refusal(self, error: ServiceError) -> CallRefusedError:
        """What the listener of a call is told that `enter` refused."""
        if isinstance(error, DrainingError):
            return CallRefusedError(str(error), self._retry.about(AFTER_RESTART_S))
        assert isinstance(error, AtCapacityError)
        return CallRefusedError(str(error), self._retry.when_full(self._clock()))

    def no_room(self, reason: str) -> CallRefusedError:
        """The models behind have none."""
        return CallRefusedError(reason, self._retry.when_full(self._clock()))

    def fault(self, reason: str) -> CallRefusedError:
        """Something is broken, maybe not for long."""
        return CallRefusedError(reason, self._retry.about(AFTER_FAULT_S))

    def _over(self, place: Place) -> None:
        self._retry.call_over(self._clock() - place.taken_at)
