"""How steps are timed on a machine that does other things as well."""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

_BURN = "x = 1.0\nwhile True:\n    for _ in range(10000):\n        x = x * 1.0000001 + 1e-9"
_WARM_S = 0.3


def cpu_s(work: Callable[[], object]) -> float:
    """Processor seconds of this thread; what other programs do in between does not count."""
    began = time.thread_time()
    work()
    return time.thread_time() - began


def typical(values: Sequence[float]) -> float:
    """The lower half's median: disturbances only ever add."""
    ordered = sorted(values)
    return statistics.median(ordered[: max(1, (len(ordered) + 1) // 2)])


@contextmanager
def burners(count: int) -> Iterator[None]:
    """So many processes that keep a core busy each."""
    running = [subprocess.Popen([sys.executable, "-c", _BURN]) for _ in range(count)]  # noqa: S603 - our interpreter
    try:
        time.sleep(_WARM_S if count else 0.0)
        yield
    finally:
        for child in running:
            child.kill()
            child.wait()


def slowdown(work: Callable[[], object], repeats: int = 15) -> list[float]:
    """By what factor work takes longer with 1, 2, ... of this machine's cores busy, itself included."""
    cores = len(os.sched_getaffinity(0))
    cpu_s(work)
    found = []
    for others in range(cores):
        with burners(others):
            found.append(typical([cpu_s(work) for _ in range(repeats)]))
    return [max(1.0, seconds / found[0]) for seconds in found]
