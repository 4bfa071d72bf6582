"""Who listened in on a call: kept beside its record, and as long."""

import json
import time
import uuid
from dataclasses import asdict, dataclass

from services.agent.state.connection import Connection


@dataclass(frozen=True)
class Listened:
    """Somebody listened.

    Attributes:
        who: name of their key.
        agent: that has the call.
        began: Unix time, like `ended`; None while they listen, or when the agent died with them.
    """

    who: str
    agent: str
    began: float
    ended: float | None = None


class ListenerBook:
    """Reads and writes them. All methods raise RedisError or OSError while Redis is away.

    Args:
        keep_s: they stay for so long after the last change.
    """

    def __init__(self, connection: Connection, agent_id: str, keep_s: int) -> None:
        self._redis = connection
        self._agent_id = agent_id
        self._keep_s = keep_s

    async def begins(self, call_id: str, who: str) -> tuple[str, Listened]:
        """Somebody begins; what `ends` is to be told."""
        listened = Listened(who, self._agent_id, time.time())
        mark = uuid.uuid4().hex
        await self._write(call_id, mark, listened)
        return mark, listened

    async def ends(self, call_id: str, mark: str, listened: Listened) -> None:
        """They listen no more."""
        await self._write(call_id, mark, Listened(listened.who, listened.agent, listened.began, time.time()))

    async def of(self, call_id: str) -> list[Listened]:
        """All of a call, the first one first."""
        found: dict[str, str] = await self._redis.client.hgetall(self._redis.keys.listeners(call_id))
        return sorted((Listened(**json.loads(value)) for value in found.values()), key=lambda one: one.began)

    async def _write(self, call_id: str, mark: str, listened: Listened) -> None:
        key = self._redis.keys.listeners(call_id)
        value = json.dumps(asdict(listened))
        await self._redis.commit([("HSET", key, mark, value), ("EXPIRE", key, self._keep_s)])
