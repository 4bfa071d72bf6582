"""How long after we send it a carrier plays our audio, from the marks that it returns. Pure, time is passed in."""

import itertools
from collections import deque

MARK_EVERY_S = 0.2  # of audio
RECENT = 5  # marks; the least delay among them counts, since a busy line adds to it
MOST_S = 3.0  # no line is slower, and nothing waits longer for one
PENDING = 200  # marks that a carrier may owe us; those before them are given up


class Playout:
    """One stream's marks."""

    def __init__(self) -> None:
        self._names = itertools.count(1)
        self._end = 0.0  # when all that was sent is played, if the carrier plays it at once
        self._unmarked_s = 0.0
        self._pending: deque[tuple[str, float]] = deque(maxlen=PENDING)
        self._recent: deque[float] = deque(maxlen=RECENT)

    @property
    def delay_s(self) -> float:
        """Seconds from a packet's time to its being heard, the way of the mark back included; 0 while unknown."""
        return min(self._recent, default=0.0)

    def sent(self, now: float, seconds: float) -> None:
        """Audio of this length left now."""
        self._end = max(self._end, now) + seconds
        self._unmarked_s += seconds

    def mark(self) -> str | None:
        """The name of a mark to send before any more audio, when it is time for one."""
        if self._unmarked_s < MARK_EVERY_S - 1e-9:
            return None
        self._unmarked_s = 0.0
        name = f"{next(self._names)}"
        self._pending.append((name, self._end))
        return name

    def played(self, now: float, name: str) -> None:
        """The carrier returned a mark. One that we did not send, or that was cleared, tells nothing."""
        if any(name == pending for pending, _ in self._pending):
            while True:
                pending, end = self._pending.popleft()
                if pending == name:
                    self._recent.append(min(max(0.0, now - end), MOST_S))
                    return

    def cleared(self, now: float) -> None:
        """Its buffer was emptied: marks that it returns now were not played."""
        self._pending.clear()
        self._end = min(self._end, now)
        self._unmarked_s = 0.0
