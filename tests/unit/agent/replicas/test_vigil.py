import asyncio
from dataclasses import dataclass, field

import grpc
import pytest

from services.agent.replicas.breaker import Breaker
from services.agent.replicas.failures import Deadlines, ModelError
from services.agent.replicas.patience import Patience
from services.agent.replicas.retry import RetryBudget
from services.agent.replicas.stages import LM
from services.agent.replicas.vigil import TICK_S, Vigil, watched


@dataclass
class Replica:
    there: bool = True
    asked: int = 0
    breaker: Breaker = field(default_factory=lambda: Breaker(lambda: 0.0))

    async def answers(self, seconds: float) -> bool:
        self.asked += 1
        return self.there


@dataclass
class Pool:
    others: bool = True
    stage = LM
    deadlines = Deadlines()
    patience: Patience = field(default_factory=lambda: Patience(1.0, 8.0))
    budget: RetryBudget = field(default_factory=RetryBudget)

    def is_alternative_to(self, replica: object) -> bool:
        return self.others


async def ticks_until_late(pool: Pool, replica: Replica, last: bool = False) -> int:
    vigil = Vigil(pool, replica, lambda: True, 8.0, last)  # type: ignore[arg-type]
    count = 0
    while not vigil.late:
        await vigil.tick()
        count += 1
        assert count < 1000
    return count


async def test_who_does_not_answer_at_all_is_left_within_the_patience() -> None:
    assert await ticks_until_late(Pool(), Replica(there=False)) * TICK_S == pytest.approx(0.6)  # 0.4 s more to be asked


async def test_who_is_busy_is_left_later() -> None:
    replica = Replica()
    assert await ticks_until_late(Pool(), replica) * TICK_S == pytest.approx(4.0, abs=1.5 * TICK_S)
    assert replica.asked == 1


async def test_without_another_replica_and_in_the_last_attempt_all_the_time_is_given() -> None:
    assert await ticks_until_late(Pool(others=False), Replica(there=False)) * TICK_S == pytest.approx(
        8.0, abs=1.5 * TICK_S
    )
    assert await ticks_until_late(Pool(), Replica(there=False), last=True) * TICK_S == pytest.approx(
        8.0, abs=1.5 * TICK_S
    )


async def test_each_one_left_makes_the_next_patience_longer() -> None:
    pool = Pool()
    counts = [await ticks_until_late(pool, Replica(there=False)) for _ in range(4)]
    assert counts == sorted(set(counts))


async def test_silence_counts_only_while_something_is_due_and_ends_with_what_is_heard() -> None:
    pool, is_due = Pool(), True
    vigil = Vigil(pool, Replica(there=False), lambda: is_due, 8.0, False)  # type: ignore[arg-type]
    for number in range(200):
        is_due = number % 5 != 0
        await vigil.tick()
    is_due = True
    for _ in range(20):
        for _ in range(4):
            await vigil.tick()
        vigil.heard()
    assert not vigil.late
    assert pool.patience.seconds > 1.0, "silences that were none are learnt from"


class Call:
    def __init__(self) -> None:
        self.ended = asyncio.Event()

    def cancel(self) -> bool:
        self.ended.set()
        return True

    async def read(self) -> None:
        """As grpc.aio: a stream that was cancelled here raises CancelledError in who reads it."""
        await self.ended.wait()
        raise asyncio.CancelledError


async def test_a_late_stream_is_ended_and_told_as_silence() -> None:
    call, pool = Call(), Pool(others=False)
    with pytest.raises(ModelError) as error:
        async with watched(call, pool, Replica(), lambda: True, 0.0):  # type: ignore[arg-type]
            await call.read()
    assert error.value.code is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_who_is_cancelled_while_reading_is_cancelled() -> None:
    call, pool = Call(), Pool()

    async def reading() -> None:
        async with watched(call, pool, Replica(), lambda: False, 8.0):  # type: ignore[arg-type]
            await call.read()

    task = asyncio.create_task(reading())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert call.ended.is_set(), "the stream is ended with it"
