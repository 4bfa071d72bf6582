"""When memory is given back."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.agent.tidying import tidy, tidy_when_idle
from services.common.grpc_server import Slots


class Tidied:
    """Counts how often."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> None:
        self.times += 1


@pytest.fixture
def slots() -> Slots:
    return Slots(2, "calls")


@pytest.fixture
async def tidied(slots: Slots) -> AsyncIterator[Tidied]:
    tidied = Tidied()
    task = asyncio.create_task(tidy_when_idle(slots, tidied, settle_s=0.0))
    await _rounds()
    yield tidied
    task.cancel()


async def _rounds() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_nothing_is_collected_before_a_call(tidied: Tidied) -> None:
    assert tidied.times == 0


async def test_garbage_is_collected_once_after_the_last_call(slots: Slots, tidied: Tidied) -> None:
    for times in (1, 2):
        with slots.take():
            with slots.take():
                await _rounds()
            await _rounds()
            assert tidied.times == times - 1, "a call would have waited for it"
        await _rounds()
        assert tidied.times == times


async def test_a_call_that_comes_meanwhile_is_not_delayed(slots: Slots, tidied: Tidied) -> None:
    slots.acquire()
    await _rounds()
    slots.release()
    slots.acquire()  # before the task has its turn
    await _rounds()
    assert tidied.times == 0
    slots.release()
    await _rounds()
    assert tidied.times == 1


def test_memory_that_was_used_is_given_back() -> None:
    def own_kib() -> int:
        lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("Anonymous:"))

    used = [bytearray(60_000) for _ in range(2000)]  # each below what glibc maps by itself: they are of the heap
    above = bytearray(60_000)  # so that its end cannot be cut off
    full = own_kib()
    used.clear()
    tidy()
    assert own_kib() < full - 50_000
    assert above
