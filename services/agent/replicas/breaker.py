"""A circuit breaker (Nygard, Release It!, 2007): keeps a replica out that fails again and again. Pure."""

from collections.abc import Callable

FAILURES = 3
FIRST_REST_S = 2.0
LONGEST_REST_S = 30.0


class Breaker:
    """Closed while all is well; open after `FAILURES` in a row; half open after a rest, for one probe at a time.

    A probe that fails doubles the rest.

    Args:
        clock: seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._failures = 0
        self._rest_s = FIRST_REST_S
        self._open_until: float | None = None

    @property
    def closed(self) -> bool:
        """Nothing is known against the replica."""
        return self._open_until is None

    def may_probe(self) -> bool:
        """Whether it is open and has rested. Who asks is the probe: another may be one only after the next rest."""
        if self._open_until is None or self._clock() < self._open_until:
            return False
        self._open_until = self._clock() + self._rest_s
        return True

    def success(self) -> None:
        """The replica did what it was asked."""
        self._failures = 0
        self._rest_s = FIRST_REST_S
        self._open_until = None

    def failure(self) -> None:
        """It did not."""
        self._failures += 1
        if self._open_until is not None:
            self._rest_s = min(2 * self._rest_s, LONGEST_REST_S)
            self._open_until = self._clock() + self._rest_s
        elif self._failures >= FAILURES:
            self._open_until = self._clock() + self._rest_s
