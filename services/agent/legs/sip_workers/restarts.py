"""When a process that died is started again."""

from dataclasses import dataclass, field


@dataclass
class Restarts:
    """How long to wait before each new start of one process. Pure: told what happened, says what to do.

    A process that ran is always started again, the more reluctantly the quicker it dies: someone may have found a
    message that kills it, and giving up would do them the favour of closing the line for good. One that cannot even
    start has a cause that does not go away by itself.

    Attributes:
        first_delay_s: before the first restart; doubled each time.
        longest_delay_s: the delay grows no further.
        steady_s: a process that lived so long starts the delays anew.
        budget: starts that may fail in a row.
    """

    first_delay_s: float = 0.1
    longest_delay_s: float = 10.0
    steady_s: float = 60.0
    budget: int = 5
    _delay_s: float = field(default=0.0, init=False)
    _failed: int = field(default=0, init=False)

    def died(self, lived_s: float) -> float:
        """The process had started and lived for `lived_s`; seconds until the next start."""
        self._failed = 0
        if lived_s >= self.steady_s:
            self._delay_s = 0.0
        return self._next()

    def start_failed(self) -> float | None:
        """It did not start; seconds until the next try, or None to give up."""
        self._failed += 1
        return None if self._failed >= self.budget else self._next()

    def _next(self) -> float:
        self._delay_s = min(max(self.first_delay_s, 2 * self._delay_s), self.longest_delay_s)
        return self._delay_s
