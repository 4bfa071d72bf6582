"""A call's place on each stage: a slot that is reserved there, and moves with the call when it must."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Generic, TypeVar

import grpc

from services.agent.replicas.failures import ModelError, NoPlaceError, within
from services.agent.replicas.pool import Pool
from services.agent.replicas.replica import Replica
from services.agent.replicas.stages import ReserveCall
from services.common.reservations import METADATA_KEY
from services.common.telemetry import catalogue
from services.common.telemetry.metrics import counter
from trunkline.v1 import decoder_pb2_grpc, lm_pb2_grpc, tokenizer_pb2_grpc

log = logging.getLogger(__name__)

S = TypeVar("S")

_FAILURES = counter(catalogue.REPLICA_FAILURES)


@dataclass(frozen=True, eq=False)
class Seat(Generic[S]):
    """Where a stream goes.

    Attributes:
        metadata: of the stream; they name the slot that is reserved for it.
    """

    replica: Replica[S]
    metadata: tuple[tuple[str, str], ...]
    call: ReserveCall


class Place(Generic[S]):
    """A call's place on one stage. Lost or draining, it is looked for elsewhere at once.

    Args:
        moved: called when there is a new place, on another replica than before maybe.
    """

    def __init__(self, pool: Pool[S], call_id: str) -> None:
        self.pool = pool
        self.moved: Callable[[], None] = lambda: None
        self._call_id = call_id
        self._seat: Seat[S] | None = None
        self._avoided: Replica[S] | None = None
        self._search: asyncio.Task[Seat[S]] | None = None
        self._closed = False

    @property
    def replica(self) -> Replica[S] | None:
        """Where the place is; none while it is looked for."""
        return self._seat.replica if self._seat is not None else None

    async def seat(self) -> Seat[S]:
        """Where the next stream goes; looks for a place where there is none.

        Raises:
            ModelError: RESOURCE_EXHAUSTED: no replica has room; UNAVAILABLE: none serves.
        """
        if self._seat is not None and self._is_good(self._seat):
            return self._seat
        try:
            return await asyncio.shield(self._searching())
        except ModelError:
            if self._holds:  # it drains or is sick, and there is no better one
                assert self._seat is not None
                return self._seat
            raise

    def failed(self, replica: Replica[S]) -> None:
        """A stream of the call failed there, or was late: another replica is preferred from now on."""
        extra = {"stage": self.pool.stage.name, "address": replica.address, "call_id": self._call_id}
        log.warning("a replica failed a call", extra=extra)
        replica.breaker.failure()
        _FAILURES.add(1, {"service": self.pool.stage.name})
        self._avoided = replica
        if self._seat is not None and self._seat.replica is replica:
            self._leave()

    async def close(self) -> None:
        """Gives the slot back."""
        self._closed = True
        self.pool.unlisten(self._look)
        search = self._search
        if search is not None:
            search.cancel()
            await asyncio.gather(search, return_exceptions=True)
        self._leave()

    def _is_good(self, seat: Seat[S]) -> bool:
        return not seat.call.done() and seat.replica.serves and seat.replica.breaker.closed

    @property
    def _holds(self) -> bool:
        return self._seat is not None and not self._seat.call.done()

    def _look(self) -> None:
        """Something has changed: sees whether the place is still good, and whether there is a better one."""
        if self._closed or (self._seat is not None and self._is_good(self._seat)):
            return
        if self._seat is None or not self._holds:
            wanted = bool(self.pool.serving)
        else:
            wanted = self.pool.is_alternative_to(self._seat.replica)
        if wanted:
            self._searching()

    def _searching(self) -> "asyncio.Task[Seat[S]]":
        if self._search is None or self._search.done():
            self._search = asyncio.create_task(self._find(), name=f"place-{self.pool.stage.name}-{self._call_id}")
            self._search.add_done_callback(_retrieve)
        return self._search

    async def _find(self) -> Seat[S]:
        stage = self.pool.stage.name
        failure = ModelError(stage, grpc.StatusCode.UNAVAILABLE, "no replica serves")
        for replica in self.pool.in_order(self._call_id, self._avoided):
            if self._holds and replica is self.replica:
                continue  # it drains or is sick: kept while there is nothing better
            try:
                seat = await self._reserve(replica)
            except ModelError as error:
                full = failure.code is grpc.StatusCode.RESOURCE_EXHAUSTED
                failure = failure if full else error
                if error.code is grpc.StatusCode.DEADLINE_EXCEEDED:
                    replica.breaker.failure()
                continue
            self._take(seat)
            return seat
        raise failure

    async def _reserve(self, replica: Replica[S]) -> Seat[S]:
        pool, stub = self.pool, replica.stub
        reserve: Any = stub
        call: ReserveCall = reserve.Reserve(pool.stage.reserve(self._call_id))
        patience = pool.patience.seconds if pool.is_alternative_to(replica) else pool.deadlines.silence_s
        try:
            response = await within(patience, pool.stage.name, "place", call.read())
            if response is grpc.aio.EOF:
                raise ModelError(pool.stage.name, grpc.StatusCode.UNAVAILABLE, "the reservation has ended")
        except BaseException:
            call.cancel()
            raise
        return Seat(replica, ((METADATA_KEY, response.reservation_id),), call)

    def _take(self, seat: Seat[S]) -> None:
        self._leave()
        self._seat = seat
        seat.replica.held += 1
        self.pool.listen(self._look)
        seat.call.add_done_callback(lambda _: self._look())
        self.moved()

    def _leave(self) -> None:
        seat, self._seat = self._seat, None
        if seat is not None:
            seat.replica.held -= 1
            seat.call.cancel()


class Reservation:
    """A call's places on all three stages; see `ModelServices.reserve`.

    As a context it holds them from the beginning, else each from its first use on; `close` gives them back.
    """

    def __init__(
        self,
        call_id: str,
        tokenizer: "Pool[tokenizer_pb2_grpc.SpeechTokenizerAsyncStub]",
        lm: "Pool[lm_pb2_grpc.VoiceLMAsyncStub]",
        decoder: "Pool[decoder_pb2_grpc.SpeechDecoderAsyncStub]",
    ) -> None:
        self.tokenizer = Place(tokenizer, call_id)
        self.lm = Place(lm, call_id)
        self.decoder = Place(decoder, call_id)

    @property
    def _places(self) -> tuple[Place[Any], ...]:
        return self.tokenizer, self.lm, self.decoder

    async def hold(self) -> None:
        """Takes a place on every stage; those that are held already are kept.

        Raises:
            NoPlaceError: a stage has none; nothing is held then.
        """
        found = await asyncio.gather(*(place.seat() for place in self._places), return_exceptions=True)
        failures: dict[str, ModelError] = {}
        for place, seat in zip(self._places, found, strict=True):
            if isinstance(seat, ModelError):
                failures[place.pool.stage.name] = seat
            elif isinstance(seat, BaseException):
                await self.close()
                raise seat
        if failures:
            await self.close()
            raise NoPlaceError(failures)

    async def close(self) -> None:
        """Gives all places back. Idempotent."""
        for place in self._places:
            await place.close()

    async def __aenter__(self) -> "Reservation":
        try:
            await self.hold()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def _retrieve(task: "asyncio.Task[Any]") -> None:
    """Marks a failure as seen: a search in the background is repeated when something changes."""
    if not task.cancelled():
        task.exception()
