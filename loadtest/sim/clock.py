"""Virtual time: what is to happen, in the order in which it happens."""

import heapq
import itertools
from collections.abc import Callable

Action = Callable[[], None]


class Clock:
    """Runs actions at their times; nothing waits.

    Attributes:
        now: seconds since the beginning.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self._due: list[tuple[float, int, Action]] = []
        self._numbers = itertools.count()

    def at(self, time: float, action: Action) -> None:
        """Runs `action` at a time; what is due at the same time runs in the order in which it was asked for."""
        heapq.heappush(self._due, (max(time, self.now), next(self._numbers), action))

    def after(self, seconds: float, action: Action) -> None:
        """Runs `action` so much later."""
        self.at(self.now + seconds, action)

    def run(self, until: float) -> None:
        """Runs all that happens up to a time."""
        while self._due and self._due[0][0] <= until:
            self.now, _, action = heapq.heappop(self._due)
            action()
        self.now = until
