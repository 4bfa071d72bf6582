"""Watches over a stream: one on which nothing comes though something is due is ended, and counts as failed."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Protocol

import grpc

from services.agent.replicas.failures import ModelError
from services.agent.replicas.pool import Pool
from services.agent.replicas.replica import Replica

TICK_S = 0.1
_ASK_AT = 0.6  # of the patience: then the replica is asked whether it is there at all
_BUSY = 4.0  # so many times the patience is given to one that is


class Call(Protocol):
    """A stream."""

    def cancel(self) -> bool:
        """Ends it."""


class Vigil:
    """The silence of one stream.

    Args:
        due: whether something should come.
        deadline_s: longest silence where there is no other replica.
        last: it is the last attempt: it may take all the time there is.
    """

    def __init__(
        self, pool: Pool[Any], replica: Replica[Any], due: Callable[[], bool], deadline_s: float, last: bool
    ) -> None:
        self._pool = pool
        self._replica = replica
        self._due = due
        self._deadline_s = deadline_s
        self._last = last
        self._silent_s = 0.0
        self._busy = False
        self.late = False

    def heard(self) -> None:
        """Something came."""
        if self._silent_s:
            self._pool.patience.waited(self._silent_s)
        self._silent_s = 0.0
        self._busy = False
        self._replica.breaker.success()
        self._pool.budget.success()

    async def run(self) -> None:
        """Returns when the stream is late."""
        while not self.late:
            await asyncio.sleep(TICK_S)
            await self.tick()

    async def tick(self) -> None:
        """`TICK_S` have gone by. Time in which this process itself stood still is not the replica's."""
        if not self._due():
            self._silent_s = 0.0
            return
        self._silent_s += TICK_S
        self.late = self._silent_s >= self._deadline_s or await self._hangs()
        if self.late:
            self._pool.patience.lost()

    async def _hangs(self) -> bool:
        if self._last or not self._pool.is_alternative_to(self._replica):
            return False
        patience_s = self._pool.patience.seconds
        if self._busy:
            return self._silent_s >= _BUSY * patience_s
        if self._silent_s < _ASK_AT * patience_s:
            return False
        before_s = self._silent_s
        self._busy = await self._replica.answers((1.0 - _ASK_AT) * patience_s)
        return not self._busy and self._silent_s == before_s  # else it spoke meanwhile


@asynccontextmanager
async def watched(
    call: Call, pool: Pool[Any], replica: Replica[Any], due: Callable[[], bool], deadline_s: float, last: bool = False
) -> AsyncIterator[Vigil]:
    """For the time that a stream is read; it is cancelled at the end, whatever that is.

    Raises:
        ModelError: what the service failed with, or DEADLINE_EXCEEDED: it was silent for too long.
    """
    vigil = Vigil(pool, replica, due, deadline_s, last)

    async def watch() -> None:
        await vigil.run()
        call.cancel()

    stage = pool.stage.name
    watching = asyncio.create_task(watch(), name=f"vigil-{stage}")
    try:
        yield vigil
    except asyncio.CancelledError:
        current = asyncio.current_task()
        if vigil.late and current is not None and not current.cancelling():
            raise ModelError(stage, grpc.StatusCode.DEADLINE_EXCEEDED, "silent for too long") from None
        raise
    except grpc.aio.AioRpcError as error:
        raise ModelError.of(stage, error) from error
    finally:
        watching.cancel()
        call.cancel()
