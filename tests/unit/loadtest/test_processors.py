"""The simulator against queues whose answers are known; three standard errors of the batch means are allowed."""

import math
from random import Random
from statistics import mean, stdev

import pytest

from loadtest.sim.clock import Clock
from loadtest.sim.processors import Process, Processors

BATCHES = 30


def sojourns(discipline: str, load: float, fixed: bool, jobs: int = 60_000, processors: int = 1) -> list[float]:
    """Times in the system of Poisson arrivals with a mean service of 1 s, in order of arrival."""
    clock, chance = Clock(), Random(7)
    pool = Processors(clock, processors)
    process = Process(pool)
    found: dict[int, float] = {}

    def arrive(number: int, at: float) -> None:
        seconds = 1.0 if fixed else chance.expovariate(1.0)

        def done() -> None:
            found[number] = clock.now - at

        (process.submit if discipline == "fifo" else pool.run)(seconds, done)

    at = 0.0
    for number in range(jobs):
        at += chance.expovariate(load)
        clock.at(at, lambda number=number, at=at: arrive(number, at))  # type: ignore[misc]
    clock.run(math.inf)
    assert len(found) == jobs
    return [found[number] for number in range(jobs)]


def assert_mean(values: list[float], expected: float) -> None:
    size = len(values) // BATCHES
    means = [mean(values[i * size : (i + 1) * size]) for i in range(BATCHES)]
    error = stdev(means) / math.sqrt(BATCHES)
    assert mean(means) == pytest.approx(expected, abs=3 * error)
    assert error < 0.1 * expected  # else anything would pass


@pytest.mark.parametrize("load", [0.3, 0.7])
def test_fifo_with_exponential_service_is_mm1(load: float) -> None:
    assert_mean(sojourns("fifo", load, fixed=False), 1 / (1 - load))


@pytest.mark.parametrize("load", [0.3, 0.7])
def test_fifo_with_fixed_service_is_md1(load: float) -> None:
    assert_mean(sojourns("fifo", load, fixed=True), 1 + load / (2 * (1 - load)))


@pytest.mark.parametrize("fixed", [False, True])
def test_processor_sharing_depends_on_the_mean_alone(fixed: bool) -> None:
    assert_mean(sojourns("shared", 0.6, fixed=fixed), 1 / (1 - 0.6))


def test_two_processors_shared_are_mm2() -> None:
    # with exponential service, sharing and one queue for both have the same number in the system
    load, busy = 1.2, 1.2 / 2
    wait = busy**2 / (1 - busy**2)  # Erlang C for two, in units of the service time
    assert_mean(sojourns("shared", load, fixed=False, processors=2), 1 + wait)


def test_equal_jobs_on_too_few_processors_finish_together() -> None:
    clock = Clock()
    pool = Processors(clock, 2)
    ends: list[float] = []
    for _ in range(3):
        pool.run(1.0, lambda: ends.append(clock.now))
    clock.run(10.0)
    assert ends == pytest.approx([1.5, 1.5, 1.5])
    assert pool.busy_s == pytest.approx(3.0)


def test_a_job_that_comes_later_takes_its_share_from_then_on() -> None:
    clock = Clock()
    pool = Processors(clock, 1)
    ends: list[float] = []
    pool.run(2.0, lambda: ends.append(clock.now))
    clock.at(1.0, lambda: pool.run(0.25, lambda: ends.append(clock.now)))
    clock.run(10.0)
    assert ends == pytest.approx([1.5, 2.25])


def test_busy_processors_slow_each_other_down() -> None:
    clock = Clock()
    pool = Processors(clock, 2, lambda busy: (1.0, 1.5)[busy - 1])
    ends: list[float] = []
    pool.run(1.0, lambda: ends.append(clock.now))
    pool.run(2.0, lambda: ends.append(clock.now))
    clock.run(10.0)
    assert ends == pytest.approx([1.5, 2.5])


def test_a_process_does_one_thing_after_another_whatever_is_free() -> None:
    clock = Clock()
    process = Process(Processors(clock, 4))
    ends: list[float] = []
    for _ in range(3):
        process.submit(1.0, lambda: ends.append(clock.now))
    clock.run(10.0)
    assert ends == pytest.approx([1.0, 2.0, 3.0])


def test_the_same_time_keeps_the_order() -> None:
    clock = Clock()
    seen: list[int] = []
    for number in range(5):
        clock.at(1.0, lambda number=number: seen.append(number))  # type: ignore[misc]
    clock.run(1.0)
    assert seen == [0, 1, 2, 3, 4]
