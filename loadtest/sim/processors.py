"""Processors that are shared: by processes on a small machine's cores, by models on one GPU. Virtual time.

All that is ready runs, each at the same speed: `count` processors give `min(1, count / ready)` of one to each. That is
processor sharing, which is what a fair kernel does to threads that all want to run.
"""

import heapq
import itertools
from collections import deque
from collections.abc import Callable

from loadtest.sim.clock import Action, Clock


def alone(busy: int) -> float:
    """Processors that do not slow each other down."""
    return 1.0


class Processors:
    """A set of equal processors.

    Args:
        count: how many.
        slowdown: by what factor work takes longer while so many of them are busy (shared caches and memory).
    """

    def __init__(self, clock: Clock, count: int, slowdown: Callable[[int], float] = alone) -> None:
        self.count = count
        self.busy_s = 0.0  # processor seconds so far
        self._clock = clock
        self._slowdown = slowdown
        self._given = 0.0  # processor seconds that each job got which has been there from the beginning
        self._since = 0.0
        self._jobs: list[tuple[float, int, Action]] = []
        self._numbers = itertools.count()
        self._alarm = 0

    def run(self, seconds: float, done: Action) -> None:
        """Runs a job that takes so many seconds of one processor that nobody else wants."""
        assert seconds >= 0
        self._account()
        heapq.heappush(self._jobs, (self._given + seconds, next(self._numbers), done))
        self._set_alarm()

    def _rate(self) -> float:
        busy = min(len(self._jobs), self.count)
        return busy / len(self._jobs) / self._slowdown(busy)

    def _account(self) -> None:
        """Brings what was given up to now."""
        elapsed = self._clock.now - self._since
        if self._jobs and elapsed:
            self._given += elapsed * self._rate()
            self.busy_s += elapsed * min(len(self._jobs), self.count)
        self._since = self._clock.now

    def _set_alarm(self) -> None:
        self._alarm += 1
        if self._jobs:
            alarm, left = self._alarm, max(0.0, self._jobs[0][0] - self._given)
            self._clock.after(left / self._rate(), lambda: self._ring(alarm))

    def _ring(self, alarm: int) -> None:
        if alarm != self._alarm:
            return  # others came or went since
        self._account()
        self._given = max(self._given, self._jobs[0][0])  # rounding must not leave a job unfinished for ever
        finished = []
        while self._jobs and self._jobs[0][0] <= self._given:
            finished.append(heapq.heappop(self._jobs)[2])
        self._set_alarm()
        for done in finished:
            done()


class Process:
    """A process with one thread: does one thing after another, each on one of the processors."""

    def __init__(self, processors: Processors) -> None:
        self.used_s = 0.0
        self._processors = processors
        self._waiting: deque[tuple[float, Action]] = deque()
        self._running = False

    def submit(self, seconds: float, done: Action) -> None:
        """Does it after all that was asked before."""
        self._waiting.append((seconds, done))
        self._next()

    def _next(self) -> None:
        if self._running or not self._waiting:
            return
        seconds, done = self._waiting.popleft()
        self.used_s += seconds
        self._running = True
        self._processors.run(seconds, lambda: self._end(done))

    def _end(self, done: Action) -> None:
        self._running = False
        done()
        self._next()
