"""The agents on one Redis: each says again and again that it is there, and how much it has to do."""

import asyncio
import json
import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

from services.agent.state.connection import AWAY, Connection
from services.agent.state.times import Times

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class AgentCard:
    """What an agent says of itself.

    Attributes:
        address: URL under which its API is reached; may be empty.
        calls: that it has now.
        capacity: calls at once.
        draining: it takes no more.
        started: Unix time, like `seen`, when it said this.
    """

    agent_id: str
    address: str
    calls: int
    capacity: int
    draining: bool
    started: float
    seen: float


class AgentDirectory:
    """Reads and writes the cards. All methods raise RedisError or OSError while Redis is away."""

    def __init__(self, connection: Connection, times: Times) -> None:
        self._redis = connection
        self._times = times

    async def announce(self, card: AgentCard) -> None:
        """The agent is there, for as long as a lease."""
        keys = self._redis.keys
        await self._redis.client.sadd(keys.agents, card.agent_id)
        value = json.dumps(asdict(card))
        await self._redis.client.set(keys.agent(card.agent_id), value, px=int(self._times.lease_s * 1000))

    async def withdraw(self, agent_id: str) -> None:
        """It leaves."""
        keys = self._redis.keys
        await self._redis.client.delete(keys.agent(agent_id))
        await self._redis.client.srem(keys.agents, agent_id)

    async def find(self, agent_id: str) -> AgentCard | None:
        """One agent; None when it has said nothing for a lease."""
        value: str | None = await self._redis.client.get(self._redis.keys.agent(agent_id))
        return AgentCard(**json.loads(value)) if value is not None else None

    async def all(self) -> list[AgentCard]:
        """All that are there, by id; those that died are forgotten on the way."""
        keys = self._redis.keys
        ids: list[str] = sorted(await self._redis.client.smembers(keys.agents))
        cards = dict(zip(ids, await asyncio.gather(*map(self.find, ids)), strict=True))
        for agent_id, card in cards.items():
            if card is None:
                await self._redis.client.srem(keys.agents, agent_id)  # one that lives says so again
        return [card for card in cards.values() if card is not None]


async def keep_announced(directory: AgentDirectory, card: Callable[[float], AgentCard], every_s: float) -> None:
    """Says so again and again, for as long as it runs.

    Args:
        card: makes it, at a Unix time.
    """
    while True:
        try:
            await directory.announce(card(time.time()))
        except AWAY as error:
            log.debug("Redis does not answer", extra={"error": type(error).__name__})
        await asyncio.sleep(every_s)
