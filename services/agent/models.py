"""The three model services as the agent sees them: their replicas, their limits, and whether they fit together."""

import asyncio
from dataclasses import dataclass
from typing import Any

import grpc

from services.agent.replicas.discovery import Targets
from services.agent.replicas.failures import Deadlines as Deadlines
from services.agent.replicas.failures import ModelError as ModelError
from services.agent.replicas.failures import within as within
from services.agent.replicas.limits import Limits as Limits
from services.agent.replicas.limits import differences, limits_of
from services.agent.replicas.places import Reservation
from services.agent.replicas.pool import Pool
from services.agent.replicas.replica import Replica
from services.agent.replicas.stages import DECODER, LM, TOKENIZER


@dataclass(frozen=True)
class ReplicaStatus:
    """What is known of a replica; see `services.agent.api.system.ReplicaBody`."""

    service: str
    address: str
    state: str
    serving: bool
    failing: bool
    capacity: int
    active: int
    held: int
    revision: str


class ModelServices:
    """The replicas of the three services, shared by all calls of an agent.

    Args:
        tokenizer: where its replicas are, see `Targets.parse`; `lm` and `decoder` alike.

    Raises:
        ValueError: an address is none.
    """

    def __init__(self, tokenizer: str, lm: str, decoder: str, deadlines: Deadlines | None = None) -> None:
        self.deadlines = deadlines or Deadlines()
        self.tokenizer = Pool(TOKENIZER, Targets.parse(tokenizer), self.deadlines, self._fits)
        self.lm = Pool(LM, Targets.parse(lm), self.deadlines, self._fits)
        self.decoder = Pool(DECODER, Targets.parse(decoder), self.deadlines, self._fits)
        self._addresses = {"tokenizer": tokenizer, "lm": lm, "decoder": decoder}
        self._limits: Limits | None = None

    @property
    def limits(self) -> Limits:
        """Published limits; known after `connect`."""
        if self._limits is None:
            raise RuntimeError("connect() first")
        return self._limits

    @property
    def capacity(self) -> int:
        """Calls at once for which all three stages have slots, other agents' among them."""
        return min(sum(int(replica.info.capacity) for replica in pool.serving) for pool in self._pools)

    async def connect(self, patience_s: float, input_rate: int) -> Limits:
        """Waits until a replica of each service serves, and checks that they fit together.

        Args:
            patience_s: how long that may take.
            input_rate: of the PCM that the agent will send to the tokenizer, hertz.

        Raises:
            ModelError: one is not reachable in time, or they do not fit together.
        """
        for pool in self._pools:
            pool.start()
        tokenizer, lm, decoder = await asyncio.gather(*(self._info(pool, patience_s) for pool in self._pools))
        if tokenizer.sample_rate != input_rate:
            raise ModelError(
                "tokenizer",
                grpc.StatusCode.FAILED_PRECONDITION,
                f"wants PCM at {tokenizer.sample_rate} Hz; the agent sends {input_rate} Hz",
            )
        sizes = {"tokenizer": tokenizer.codebook_size, "lm": lm.codebook_size, "decoder": decoder.codebook_size}
        if len(set(sizes.values())) != 1:
            said = ", ".join(f"{stage} {size}" for stage, size in sizes.items())
            raise ModelError("lm", grpc.StatusCode.FAILED_PRECONDITION, f"codebook sizes differ: {said}")
        self._limits = limits_of(tokenizer, lm, decoder)
        return self._limits

    def reserve(self, call_id: str) -> Reservation:
        """A call's places on the three stages: `async with models.reserve(call_id) as places`, or `hold` and `close`.

        Where a stage has none, `NoPlaceError.failures` tells which, and why.
        """
        return Reservation(call_id, self.tokenizer, self.lm, self.decoder)

    def replicas(self) -> list[ReplicaStatus]:
        """All that are known, by service and address."""
        return [_status(pool.stage.name, replica) for pool in self._pools for replica in _by_address(pool)]

    async def reachable(self) -> str | None:
        """None when a replica of each service serves now, else the service of which none does."""
        return next((pool.stage.name for pool in self._pools if not pool.serving), None)

    async def close(self) -> None:
        """Closes all channels."""
        for pool in self._pools:
            await pool.close()

    @property
    def _pools(self) -> tuple[Pool[Any], ...]:
        return self.tokenizer, self.lm, self.decoder

    async def _info(self, pool: Pool[Any], patience_s: float) -> Any:
        try:
            async with asyncio.timeout(patience_s):
                return (await pool.any_serving())[0].info
        except TimeoutError as error:
            stage = pool.stage.name
            detail = f"{self._addresses[stage]} is not reachable ({self._state(pool)})"
            raise ModelError(stage, grpc.StatusCode.UNAVAILABLE, detail) from error

    def _state(self, pool: Pool[Any]) -> str:
        return ", ".join(replica.state.value for replica in pool.replicas) or "no such name"

    def _fits(self, info: Any) -> str:
        """A replica that comes later must be like those that were there at the start."""
        return differences(self._limits, info) if self._limits is not None else ""


def _by_address(pool: Pool[Any]) -> list[Replica[Any]]:
    return sorted(pool.replicas, key=lambda replica: replica.address)


def _status(service: str, replica: Replica[Any]) -> ReplicaStatus:
    info = replica.info
    return ReplicaStatus(
        service=service,
        address=replica.address,
        state=replica.state.value,
        serving=replica.serves,
        failing=not replica.breaker.closed,
        capacity=int(info.capacity) if info is not None else 0,
        active=int(info.active) if info is not None else 0,
        held=replica.held,
        revision=str(info.model_revision) if info is not None else "",
    )
