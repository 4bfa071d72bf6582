"""Redis, where calls, conversations and personas are kept. Keys and their forms:

- `call:{id}` (hash): `agent`, `state`, `leg`, `from`, `to`, `persona`, `persona_version`, `started`, `ended`, `reason`;
  of a call that we placed also `outcome` and `sip_status`.
- `call:{id}:lease` (string with a TTL): the agent that holds the call; gone when the agent is.
- `calls:live` (set): ids of calls that have not ended.
- `conversation:{id}` (stream): the entries of `services.agent.conversation`, in order.
- `persona:{name}` (hash): `version` and `settings` (JSON) of the newest version; `persona:{name}:{version}`: of each.
"""

import asyncio
import json
import logging
import time
from collections.abc import Awaitable
from typing import Any

import redis.asyncio as redis
from redis.exceptions import RedisError

from services.agent.conversation import Entry, Role
from services.agent.events import CallRecord, CallState
from services.agent.legs.base import LegKind
from services.agent.outbound.outcome import DialOutcome
from services.agent.personas import Persona

log = logging.getLogger(__name__)

LEASE_MS = 15_000
RENEW_S = 5.0
KEEP_ENDED_S = 7 * 24 * 3600  # how long an ended call and its conversation stay


class StoreError(Exception):
    """Redis cannot be reached or answered nonsense."""


def _without_credentials(url: str) -> str:
    """The URL as it may stand in a log."""
    scheme, separator, rest = url.rpartition("://")
    return scheme + separator + rest.rpartition("@")[2]


class Store:
    """The agent's view of Redis.

    Args:
        agent_id: written into leases.
    """

    def __init__(self, url: str, agent_id: str) -> None:
        self._url = url
        self._agent_id = agent_id
        try:
            self._redis = redis.Redis.from_url(
                url, decode_responses=True, socket_timeout=3.0, socket_connect_timeout=3.0, health_check_interval=15
            )
        except ValueError as error:
            raise StoreError(f"{_without_credentials(url)!r} is no Redis URL: {error}") from error

    async def connect(self) -> None:
        """Checks that Redis answers.

        Raises:
            StoreError: it does not.
        """
        try:
            await self._redis.ping()
        except (RedisError, OSError) as error:
            raise StoreError(f"Redis at {_without_credentials(self._url)} does not answer: {error}") from error

    async def reachable(self) -> bool:
        """Redis answers now."""
        try:
            await self.connect()
        except StoreError:
            return False
        return True

    async def close(self) -> None:
        """Closes the connections."""
        await self._redis.aclose()

    async def save_persona(self, persona: Persona) -> int:
        """Stores a persona; returns its version, which is a new one only when its settings changed."""
        settings = json.dumps(persona.model_dump(mode="json"), sort_keys=True)
        key = f"persona:{persona.name}"
        async with self._redis.pipeline() as pipe:
            while True:
                try:
                    await pipe.watch(key)
                    stored = await pipe.hgetall(key)
                    if stored.get("settings") == settings:
                        return int(stored["version"])
                    version = int(stored.get("version", 0)) + 1
                    pipe.multi()  # type: ignore[no-untyped-call]
                    pipe.hset(key, mapping={"version": version, "settings": settings})
                    pipe.hset(f"{key}:{version}", mapping={"version": version, "settings": settings})
                    await pipe.execute()
                    return version
                except redis.WatchError:
                    continue  # another agent stored it at the same moment

    async def load_persona(self, name: str, version: int) -> Persona:
        """One version of a persona.

        Raises:
            StoreError: there is none.
        """
        settings = await self._redis.hget(f"persona:{name}:{version}", "settings")
        if settings is None:
            raise StoreError(f"no version {version} of persona {name!r}")
        return Persona.model_validate_json(settings)

    async def begin_call(self, call: CallRecord) -> None:
        """A call exists from now on, and this agent holds it."""
        async with self._redis.pipeline() as pipe:
            pipe.hset(f"call:{call.call_id}", mapping={**_call_fields(call), "agent": self._agent_id})
            pipe.sadd("calls:live", call.call_id)
            pipe.set(f"call:{call.call_id}:lease", self._agent_id, px=LEASE_MS)
            await pipe.execute()

    async def update_call(self, call: CallRecord) -> None:
        """A call's record changed; an ended one loses its lease and expires in time."""
        key = f"call:{call.call_id}"
        async with self._redis.pipeline() as pipe:
            pipe.hset(key, mapping=_call_fields(call))
            if call.state is CallState.ENDED:
                _end(pipe, call.call_id)
            await pipe.execute()

    async def call(self, call_id: str) -> CallRecord | None:
        """A call's record, live or ended; None when there is none (any more)."""
        fields: Any = await self._redis.hgetall(f"call:{call_id}")
        if not fields:
            return None
        return CallRecord(
            call_id,
            LegKind(fields["leg"]),
            CallState(fields["state"]),
            fields["from"],
            fields["to"],
            fields["persona"],
            int(fields["persona_version"]),
            float(fields["started"]),
            fields.get("reason", ""),
            "outcome" in fields,
            DialOutcome(fields.get("outcome", "")),
            int(fields.get("sip_status", 0)),
        )

    async def renew(self, call_id: str) -> None:
        """Keeps the lease of a live call."""
        await self._redis.set(f"call:{call_id}:lease", self._agent_id, px=LEASE_MS)

    async def bury_lost(self) -> list[str]:
        """Marks calls as lost whose agent let the lease expire; returns their ids."""
        lost = []
        live: set[Any] = await self._redis.smembers("calls:live")
        for call_id in live:
            if await self._redis.exists(f"call:{call_id}:lease"):
                continue
            if not await self._redis.sismember("calls:live", call_id):
                continue  # it ended, in good order, since the list was read
            async with self._redis.pipeline() as pipe:
                pipe.hset(f"call:{call_id}", mapping={"state": CallState.ENDED.value, "reason": "its agent was lost"})
                _end(pipe, call_id)
                await pipe.execute()
            lost.append(call_id)
        return lost

    async def append(self, call_id: str, entry: Entry) -> None:
        """Adds an entry to the call's conversation."""
        fields: dict[Any, Any] = {
            "role": entry.role.value,
            "turn": entry.turn,
            "tokens": json.dumps(entry.ids),
            "length": entry.length,
            "time": repr(time.time()),
        }
        if entry.text:
            fields["text"] = entry.text
        if entry.interrupted:
            fields["interrupted"] = 1
        await self._redis.xadd(f"conversation:{call_id}", fields)

    async def conversation(self, call_id: str) -> list[Entry]:
        """All entries of a call's conversation; `services.agent.conversation.replay` gives the ids."""
        rows: Any = await self._redis.xrange(f"conversation:{call_id}")
        return [
            Entry(
                Role(fields["role"]),
                tuple(json.loads(fields["tokens"])),
                int(fields["length"]),
                fields.get("text", ""),
                fields.get("interrupted") == "1",
                int(fields["turn"]),
            )
            for _, fields in rows
        ]


def _call_fields(call: CallRecord) -> dict[Any, Any]:
    fields = {
        "state": call.state.value,
        "leg": call.leg.value,
        "from": call.from_,
        "to": call.to,
        "persona": call.persona,
        "persona_version": call.persona_version,
        "started": repr(call.started),
    }
    if call.placed:
        fields |= {"outcome": call.outcome.value, "sip_status": call.sip_status}
    if call.state is CallState.ENDED:
        fields |= {"ended": repr(time.time()), "reason": call.end_reason}
    return fields


def _end(pipe: "redis.client.Pipeline", call_id: str) -> None:
    pipe.srem("calls:live", call_id)
    pipe.delete(f"call:{call_id}:lease")
    pipe.expire(f"call:{call_id}", KEEP_ENDED_S)
    pipe.expire(f"conversation:{call_id}", KEEP_ENDED_S)


class Recorder:
    """Writes one call's entries and states to Redis in order, and renews its lease.

    It does so off the call's own path: a Redis that is away must not stop a call.
    """

    def __init__(self, store: Store, call_id: str) -> None:
        self._store = store
        self._call_id = call_id
        self._queue: asyncio.Queue[Entry | CallRecord | None] = asyncio.Queue()
        self._task = asyncio.create_task(self._run(), name=f"recorder-{call_id}")

    def entry(self, entry: Entry) -> None:
        """Records an entry of the conversation."""
        self._queue.put_nowait(entry)

    def call(self, call: CallRecord) -> None:
        """Records the call's state."""
        self._queue.put_nowait(call)

    async def close(self, patience_s: float = 5.0) -> None:
        """Writes what is left, as far as Redis lets it in `patience_s`."""
        self._queue.put_nowait(None)
        _, late = await asyncio.wait({self._task}, timeout=patience_s)
        if late:
            log.error("a call's last records were not written", extra={"call_id": self._call_id})
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        renew_at = loop.time() + RENEW_S
        while True:
            try:
                async with asyncio.timeout_at(renew_at):
                    item = await self._queue.get()
            except TimeoutError:
                renew_at = loop.time() + RENEW_S
                await self._attempt(self._store.renew(self._call_id))
                continue
            if item is None:
                return
            if isinstance(item, Entry):
                await self._attempt(self._store.append(self._call_id, item))
            else:
                await self._attempt(self._store.update_call(item))

    async def _attempt(self, write: Awaitable[None]) -> None:
        try:
            await write
        except (RedisError, OSError) as error:
            log.warning("Redis refused a record", extra={"call_id": self._call_id, "error": type(error).__name__})
