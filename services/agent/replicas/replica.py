"""One replica of a model service: its channel, its health, and how much it has to do."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from enum import Enum
from random import Random
from typing import Any, Generic, TypeVar

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.agent.replicas.breaker import Breaker
from services.agent.replicas.stages import Published, Stage
from services.common.channels import channel

log = logging.getLogger(__name__)

S = TypeVar("S")

_OPTIONS = [
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.use_local_subchannel_pool", 1),  # a replica's connection is shared with no other channel
]
POLL_S = 1.0  # between two looks at its load
INFO_S = 2.0  # it should say how it is within this
AGAIN_S = 0.3  # between two attempts to reach it; half as much again or less, by chance


class State(Enum):
    """What is known of a replica."""

    UNKNOWN = "unknown"  # it has not said anything yet
    SERVING = "serving"
    DRAINING = "draining"  # it answers, and takes nothing new: it stops, or what it stands on is away
    DEAD = "dead"  # not reachable


class Replica(Generic[S]):
    """A replica, watched from `start` to `close`.

    Args:
        server_name: that its certificate bears, where it is not the address's host.
        fits: says what keeps it from being used, of its Info; nothing when it can be.
        changed: called when it can be used from now on, or cannot any more.
        welcome: awaited before it is used, each time that it comes up.
    """

    def __init__(
        self,
        stage: Stage[S],
        address: str,
        server_name: str,
        clock: Callable[[], float],
        random: Random,
        fits: Callable[[Any], str],
        changed: Callable[[], None],
        welcome: "Callable[[Replica[S]], Awaitable[None]]",
    ) -> None:
        self.stage = stage
        self.address = address
        self.state = State.UNKNOWN
        self.listed = True  # discovery still names it
        self.held = 0  # places that this agent's calls have here
        self.info: Any = None  # as last published
        self.breaker = Breaker(clock)
        self._random = random
        self._fits = fits
        self._changed = changed
        self._welcome = welcome
        self._held_then = 0
        self._unfit = ""
        self._channel = channel(address, _OPTIONS, server_name=server_name)
        self.stub = stage.stub(self._channel)
        self._health: Any = health_pb2_grpc.HealthStub(self._channel)
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def serves(self) -> bool:
        """It takes new work, as far as is known."""
        return self.state is State.SERVING and self.info is not None and not self._unfit

    @property
    def load(self) -> float:
        """Share of its slots that are taken: what it last published, and what this agent has added since."""
        published: Published | None = self.info
        if published is None or published.capacity <= 0:
            return float(self.held)
        return max(self.held, published.active + self.held - self._held_then) / published.capacity

    def start(self) -> None:
        """Begins to watch it."""
        name = f"{self.stage.name}-{self.address}"
        self._tasks = [
            asyncio.create_task(self._watch(), name=f"health-{name}"),
            asyncio.create_task(self._poll(), name=f"load-{name}"),
        ]

    async def close(self) -> None:
        """Ends the watching and closes the channel, with all that goes over it."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.state = State.DEAD
        await self._channel.close()

    async def answers(self, seconds: float) -> bool:
        """Whether it says anything at all within this time: one that does is busy, one that does not hangs."""
        try:
            await self._health.Check(health_pb2.HealthCheckRequest(service=self.stage.service), timeout=seconds)
        except grpc.aio.AioRpcError:
            return False
        return True

    async def _watch(self) -> None:
        """Follows its health (grpc.health.v1): Watch, or Check again and again where that is not implemented."""
        request = health_pb2.HealthCheckRequest(service=self.stage.service)
        check = False
        while True:
            try:
                if check:
                    await self._heard((await self._health.Check(request, timeout=INFO_S)).status)
                else:
                    async for response in self._health.Watch(request):
                        await self._heard(response.status)
                    self._become(State.DEAD)
            except grpc.aio.AioRpcError as error:
                if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                    check = True
                else:
                    self._become(State.DEAD)
            await asyncio.sleep(AGAIN_S * self._random.uniform(0.5, 1.5))

    async def _heard(self, status: Any) -> None:
        if status != health_pb2.HealthCheckResponse.SERVING:
            self._become(State.DRAINING)
            return
        if self.state is not State.SERVING:
            await self._ask()  # it may be another process than before
            await self._welcome(self)
            self.breaker.success()
            self._become(State.SERVING)

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(POLL_S * self._random.uniform(0.8, 1.2))
            if self.state is not State.SERVING:
                continue
            try:
                await self._ask()
            except grpc.aio.AioRpcError as error:
                if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                    self.breaker.failure()
            self._changed()

    async def _ask(self) -> None:
        stub: Any = self.stub
        self.info = await stub.Info(self.stage.info, timeout=INFO_S)
        self._held_then = self.held
        unfit = self._fits(self.info)
        if unfit and unfit != self._unfit:
            log.error("a replica cannot be used", extra={"stage": self.stage.name, "why": unfit})
        self._unfit = unfit

    def _become(self, state: State) -> None:
        if state is self.state:
            return
        if self.state is not State.UNKNOWN:
            extra = {"stage": self.stage.name, "address": self.address, "state": state.value}
            log.info("a replica has changed", extra=extra)
        self.state = state
        self._changed()
