"""When garbage is collected."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from services.agent.tidying import collect_when_idle
from services.common.grpc_server import Slots


class Collected:
    """Counts collections."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> None:
        self.times += 1


@pytest.fixture
def slots() -> Slots:
    return Slots(2, "calls")


@pytest.fixture
async def collected(slots: Slots) -> AsyncIterator[Collected]:
    collected = Collected()
    task = asyncio.create_task(collect_when_idle(slots, collected, settle_s=0.0))
    await _rounds()
    yield collected
    task.cancel()


async def _rounds() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_nothing_is_collected_before_a_call(collected: Collected) -> None:
    assert collected.times == 0


async def test_garbage_is_collected_once_after_the_last_call(slots: Slots, collected: Collected) -> None:
    for times in (1, 2):
        with slots.take():
            with slots.take():
                await _rounds()
            await _rounds()
            assert collected.times == times - 1, "a call would have waited for it"
        await _rounds()
        assert collected.times == times


async def test_a_call_that_comes_meanwhile_is_not_delayed(slots: Slots, collected: Collected) -> None:
    slots.acquire()
    await _rounds()
    slots.release()
    slots.acquire()  # before the collector has its turn
    await _rounds()
    assert collected.times == 0
    slots.release()
    await _rounds()
    assert collected.times == 1
