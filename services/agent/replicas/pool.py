"""The replicas of one model service: found, watched, and put in order for a call."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any, Generic, TypeVar

from services.agent.replicas.discovery import Lookup, Targets, look_up
from services.agent.replicas.failures import Deadlines
from services.agent.replicas.patience import Patience
from services.agent.replicas.picking import by_load, by_rendezvous
from services.agent.replicas.replica import Replica
from services.agent.replicas.retry import RetryBudget
from services.agent.replicas.stages import Stage

log = logging.getLogger(__name__)

S = TypeVar("S")

RESOLVE_S = 5.0  # between two look-ups of a name


class Pool(Generic[S]):
    """Replicas of one stage, shared by all calls of an agent.

    `welcome` is awaited, briefly, for each replica that comes up, before it is used.

    Args:
        deadlines: of the stage's streams.
        fits: says what keeps a replica from being used, of its Info; nothing when it can be.
    """

    def __init__(
        self,
        stage: Stage[S],
        targets: Targets,
        deadlines: Deadlines,
        fits: Callable[[Any], str] = lambda info: "",
        lookup: Lookup = look_up,
        clock: Callable[[], float] = time.monotonic,
        random: Random | None = None,
        resolve_s: float = RESOLVE_S,
    ) -> None:
        self.stage = stage
        self.targets = targets
        self.deadlines = deadlines
        self.patience = Patience(deadlines.late_s, deadlines.silence_s)
        self.budget = RetryBudget()
        self.random = random or Random()
        self.welcome: Callable[[Replica[S]], Awaitable[None]] = _nothing
        self._fits = fits
        self._lookup = lookup
        self._resolve_s = resolve_s
        self._clock = clock
        self._replicas: dict[str, Replica[S]] = {}
        self._listeners: set[Callable[[], None]] = set()
        self._news = asyncio.Event()
        self._resolving: asyncio.Task[None] | None = None

    @property
    def replicas(self) -> list[Replica[S]]:
        """All that are known."""
        return list(self._replicas.values())

    @property
    def serving(self) -> list[Replica[S]]:
        """Those that take new work."""
        return [replica for replica in self._replicas.values() if replica.serves]

    def start(self) -> None:
        """Begins to look for replicas and to watch them."""
        if self._resolving is None:
            self._resolving = asyncio.create_task(self._resolve(), name=f"replicas-{self.stage.name}")

    async def close(self) -> None:
        """Ends everything."""
        if self._resolving is not None:
            self._resolving.cancel()
            await asyncio.gather(self._resolving, return_exceptions=True)
        replicas, self._replicas = self.replicas, {}
        for replica in replicas:
            await replica.close()

    async def any_serving(self) -> list[Replica[S]]:
        """Those that take new work, as soon as there is one."""
        while not (serving := self.serving):
            self._news.clear()
            await self._news.wait()
        return serving

    def in_order(self, call_id: str, avoided: "Replica[S] | None" = None) -> list[Replica[S]]:
        """Where a call should try to go, best first; those that lately failed, or have left the records, come last."""
        serving = self.serving
        well = [replica for replica in serving if replica.breaker.closed]
        if self.stage.sticky:
            order = by_rendezvous(call_id, well, lambda replica: replica.address)
        else:
            order = by_load(well, lambda replica: replica.load, self.random)
        sick = [replica for replica in serving if not replica.breaker.closed]
        order = [replica for replica in sick if replica.breaker.may_probe()] + order
        order += [replica for replica in sick if replica not in order]
        return sorted(order, key=lambda replica: (replica is avoided, not replica.listed))

    def is_alternative_to(self, replica: "Replica[S]") -> bool:
        """Another one serves and is well."""
        return any(other is not replica and other.breaker.closed for other in self.serving)

    def listen(self, listener: Callable[[], None]) -> None:
        """Calls back whenever a replica may have changed, until `unlisten`."""
        self._listeners.add(listener)

    def unlisten(self, listener: Callable[[], None]) -> None:
        """Ends `listen`."""
        self._listeners.discard(listener)

    async def _resolve(self) -> None:
        while True:
            try:
                await self._take(await self.targets.resolve(self._lookup))
            except OSError as error:
                log.warning("a name cannot be looked up", extra={"stage": self.stage.name, "why": error.strerror})
            if not self.targets.names:
                return
            await asyncio.sleep(self._resolve_s * self.random.uniform(0.8, 1.2))

    async def _take(self, addresses: dict[str, str]) -> None:
        """These are all there are: new ones are watched, those that are gone and dead are forgotten."""
        for address, server_name in addresses.items():
            if address not in self._replicas:
                replica = Replica(
                    self.stage,
                    address,
                    server_name,
                    self._clock,
                    self.random,
                    self._fits,
                    self._changed,
                    lambda replica: self.welcome(replica),
                )
                self._replicas[address] = replica
                replica.start()
        for replica in self.replicas:
            replica.listed = replica.address in addresses
            # A draining pod leaves DNS at once, and its streams go on.
            if not replica.listed and not replica.held and not replica.serves:
                del self._replicas[replica.address]
                await replica.close()
        self._changed()

    def _changed(self) -> None:
        self._news.set()
        for listener in list(self._listeners):
            listener()


async def _nothing(_: Replica[S]) -> None:
    """Nothing is to be done first."""
