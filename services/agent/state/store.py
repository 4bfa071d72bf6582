"""Calls and conversations in Redis; docs/state.md lists the keys and what is guaranteed.

Every method that talks to Redis raises `connection.AWAY` when it is away; then it may have been carried out or not, and
calling it once more is always right.
"""

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from services.agent.conversation import Entry, Role
from services.agent.events import CallRecord, CallState
from services.agent.legs.base import LegKind
from services.agent.outbound.outcome import DialOutcome
from services.agent.state import scripts
from services.agent.state.address import StateError
from services.agent.state.connection import Connection
from services.agent.state.sealing import Sealer
from services.agent.state.times import Times

LOST = "its agent was lost"
GATHERED = 100  # calls read at once


class Hold(Enum):
    """What became of a call whose lease is renewed."""

    HELD = "held"
    WANTED = "wanted"  # its caller has reached another agent, which would go on with it
    MOVED = "moved"  # another call goes on with its conversation already


@dataclass(frozen=True)
class StoredCall:
    """A call as it stands in Redis.

    Attributes:
        agent: that holds or held it.
        ended: Unix time; 0 while it has not.
        continues: the call whose conversation it went on with, or empty.
        continued_by: the call that went on with this one, or empty.
        held: its lease runs.
    """

    record: CallRecord
    agent: str
    ended: float
    continues: str
    continued_by: str
    held: bool


class Store:
    """The agent's view of its calls.

    Args:
        agent_id: written into leases.
    """

    def __init__(
        self, connection: Connection, agent_id: str, sealer: Sealer | None = None, times: Times | None = None
    ) -> None:
        self.redis = connection
        self.times = times or Times()
        self.sealer = sealer or Sealer({})
        self.agent_id = agent_id

    async def hold(self, call: CallRecord, continues: str = "", digest: str = "") -> tuple[Hold, int]:
        """Begins a call, writes its record, and renews its lease; also takes back one that was taken for lost.

        Args:
            continues: the call whose conversation it goes on with.
            digest: of the secret with which its page comes back; empty: there is none (yet).

        Returns what became of it, and the number of the conversation's last entry.
        """
        keys = self.redis.keys
        await self.redis.client.sadd(keys.live, call.call_id)
        lease_ms = int(self.times.lease_s * 1000)
        fields = self._fields(call, continues)
        what, last = await self._eval(scripts.HOLD, call.call_id, self.agent_id, lease_ms, digest, *fields)
        return Hold(what), int(last)

    async def finish(
        self, call: CallRecord, resumable: bool = False, continues: str = "", ended_at: float | None = None
    ) -> None:
        """A call ended: its lease goes, its record expires in time.

        Args:
            resumable: another call may go on with it.
            ended_at: Unix time; None: now.
        """
        resume_s = self.times.resume_s if resumable else 0
        fields = self._fields(call, continues)
        fields += ["ended", repr(time.time() if ended_at is None else ended_at), "reason", call.end_reason]
        await self._eval(scripts.FINISH, call.call_id, self.times.keep_s, resume_s, *fields)
        await self.redis.client.srem(self.redis.keys.live, call.call_id)

    async def bury(self, call_id: str) -> bool:
        """Marks a call as lost if its agent let the lease expire; whether it did so now."""
        times = self.times
        reply = await self._eval(scripts.BURY, call_id, times.keep_s, times.resume_s, repr(time.time()), LOST)
        if reply != "held":
            await self.redis.client.srem(self.redis.keys.live, call_id)
        return bool(reply == "lost")

    async def bury_lost(self) -> list[str]:
        """Marks all calls as lost whose agent let the lease expire; returns their ids."""
        live: set[str] = await self.redis.client.smembers(self.redis.keys.live)
        return [call_id for call_id in sorted(live) if await self.bury(call_id)]

    async def claim(self, call_id: str, new_id: str) -> bool:
        """Whether the call `new_id` may go on with an ended one; only one may."""
        key = self.redis.keys.call(call_id)
        return bool(await self.redis.client.eval(scripts.CLAIM, 1, key, new_id) == new_id)

    async def unclaim(self, call_id: str, new_id: str) -> None:
        """The call `new_id` came to nothing: another one may go on."""
        await self.redis.client.eval(scripts.UNCLAIM, 1, self.redis.keys.call(call_id), new_id)

    async def want(self, call_id: str) -> None:
        """Asks the agent that holds a call to let go of it."""
        await self.redis.client.eval(scripts.WANT, 1, self.redis.keys.call(call_id), self.agent_id)

    async def resume_digest(self, call_id: str) -> str | None:
        """Of the secret with which a call's page comes back; None when there is none (any more)."""
        digest: str | None = await self.redis.client.get(self.redis.keys.resume(call_id))
        return digest

    async def note_last_call(self, digest: str, call_id: str, seconds: float) -> None:
        """For so long a caller's last call can be found."""
        await self.redis.client.set(self.redis.keys.caller(digest), call_id, px=int(seconds * 1000))

    async def last_call(self, digest: str) -> str | None:
        """The last call noted for a caller."""
        call_id: str | None = await self.redis.client.get(self.redis.keys.caller(digest))
        return call_id

    async def call(self, call_id: str) -> CallRecord | None:
        """A call's record, live or ended; None when there is none (any more).

        Raises:
            StateError: it is sealed with another key.
        """
        stored = await self.stored(call_id)
        return stored.record if stored is not None else None

    async def stored(self, call_id: str) -> StoredCall | None:
        """See `call`; with what Redis alone knows of it."""
        keys = self.redis.keys
        fields: dict[str, str] = await self.redis.client.hgetall(keys.call(call_id))
        if "state" not in fields:
            return None
        if "sealed" in fields:
            fields |= json.loads(self.sealer.open(fields["sealed"], _call_context(call_id)))
        record = CallRecord(
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
        held = bool(await self.redis.client.exists(keys.lease(call_id)))
        ended = float(fields.get("ended", 0))
        links = fields.get("continues", ""), fields.get("continued_by", "")
        return StoredCall(record, fields["agent"], ended, *links, held)

    async def live(self) -> list[StoredCall]:
        """All agents' calls whose lease runs, oldest first; not those that are sealed with a key that is not listed."""
        ids: list[str] = sorted(await self.redis.client.smembers(self.redis.keys.live))
        found: list[StoredCall] = []
        for start in range(0, len(ids), GATHERED):
            some = await asyncio.gather(*(self._live(call_id) for call_id in ids[start : start + GATHERED]))
            found += [stored for stored in some if stored is not None]
        return sorted(found, key=lambda stored: stored.record.started)

    async def _live(self, call_id: str) -> StoredCall | None:
        try:
            stored = await self.stored(call_id)
        except StateError:
            return None
        return stored if stored is not None and stored.held and stored.record.state is not CallState.ENDED else None

    async def append(self, call_id: str, entries: Sequence[tuple[int, Entry]]) -> int:
        """Adds numbered entries to a conversation, each once, and only after the one before it.

        An entry of role RESET stands for all before it, so it may follow a gap. Returns the last number in Redis; when
        it is lower than the last one given, Redis has lost some: begin again after it.
        """
        arguments: list[str | int] = []
        for number, entry in entries:
            fields = self._entry_fields(call_id, str(number), entry)
            after = 0 if entry.role is Role.RESET else number - 1
            arguments += [number, after, len(fields), *fields]
        key = self.redis.keys.conversation(call_id)
        return int(await self.redis.client.eval(scripts.APPEND, 1, key, *arguments))

    async def conversation(self, call_id: str) -> list[Entry]:
        """All entries of a call's conversation; `services.agent.conversation.replay` gives the ids.

        Raises:
            StateError: they are sealed with another key.
        """
        return [entry for _, entry in await self._numbered(call_id)]

    async def _numbered(self, call_id: str) -> list[tuple[int, Entry]]:
        rows: Any = await self.redis.client.xrange(self.redis.keys.conversation(call_id))
        numbered = ((row.partition("-")[0], fields) for row, fields in rows)
        return [(int(number), self._entry(call_id, number, fields)) for number, fields in numbered]

    async def heard(self, call_id: str, after: int, entry: Entry) -> None:
        """Notes what was heard so far of the answer that follows entry number `after`; the last word counts."""
        fields = self._entry_fields(call_id, f"heard-{after}", entry)
        value = json.dumps({"after": after, **dict(zip(fields[::2], fields[1::2], strict=True))})
        await self.redis.client.set(self.redis.keys.heard(call_id), value, ex=self.times.keep_s)

    async def past(self, call_id: str) -> list[Entry]:
        """The conversation of a call that is over; an answer that death cut short is in it as far as it was heard.

        Raises:
            StateError: it is sealed with another key.
        """
        numbered = await self._numbered(call_id)
        entries = [entry for _, entry in numbered]
        number = numbered[-1][0] if numbered else 0
        value = await self.redis.client.get(self.redis.keys.heard(call_id))
        if value is not None:
            fields = json.loads(value)
            after = fields.pop("after")
            if after == number:
                entries.append(self._entry(call_id, f"heard-{after}", fields))
        return entries

    def _entry_fields(self, call_id: str, place: str, entry: Entry) -> list[str | int]:
        content: dict[str, str] = {"tokens": json.dumps(entry.ids, separators=(",", ":"))}
        if entry.text:
            content["text"] = entry.text
        if self.sealer.seals:
            content = {"sealed": self.sealer.seal(json.dumps(content), _entry_context(call_id, place))}
        fields: list[str | int] = ["role", entry.role.value, "turn", entry.turn, "length", entry.length]
        fields += ["time", repr(time.time())]
        if entry.interrupted:
            fields += ["interrupted", 1]
        for pair in content.items():
            fields += pair
        return fields

    def _entry(self, call_id: str, place: str, fields: dict[str, str]) -> Entry:
        if "sealed" in fields:
            fields |= json.loads(self.sealer.open(fields["sealed"], _entry_context(call_id, place)))
        ids = tuple(json.loads(fields["tokens"]))
        interrupted = fields.get("interrupted") in ("1", 1)
        text, length, turn = fields.get("text", ""), int(fields["length"]), int(fields["turn"])
        return Entry(Role(fields["role"]), ids, length, text, interrupted, turn)

    def _fields(self, call: CallRecord, continues: str) -> list[str | int]:
        parties = {"from": call.from_, "to": call.to}
        if self.sealer.seals:
            parties = {"sealed": self.sealer.seal(json.dumps(parties), _call_context(call.call_id))}
        fields: dict[str, str | int] = {
            "agent": self.agent_id,
            "state": call.state.value,
            "leg": call.leg.value,
            "persona": call.persona,
            "persona_version": call.persona_version,
            "started": repr(call.started),
            **parties,
        }
        if continues:
            fields["continues"] = continues
        if call.placed:
            fields |= {"outcome": call.outcome.value, "sip_status": call.sip_status}
        return [part for pair in fields.items() for part in pair]

    async def _eval(self, script: str, call_id: str, *arguments: str | int) -> Any:
        keys = self.redis.keys
        names = [make(call_id) for make in (keys.call, keys.lease, keys.conversation, keys.resume, keys.heard)]
        return await self.redis.client.eval(script, len(names), *names, *arguments)


def _call_context(call_id: str) -> str:
    return f"call:{call_id}"


def _entry_context(call_id: str, place: str) -> str:
    return f"conversation:{call_id}:{place}"
