"""Callers who come back to a conversation that their call has lost: on any agent, and in the same words."""

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from services.agent.conversation import Entry
from services.agent.events import CallState
from services.agent.legs.base import NO_AUDIO, WORKER_DIED, Leg, LegKind
from services.agent.personas import Persona
from services.agent.state.address import StateError
from services.agent.state.connection import AWAY
from services.agent.state.personas import PersonaStore
from services.agent.state.store import LOST, Store, StoredCall

log = logging.getLogger(__name__)

STOPPED = "the agent stopped"
MOVED = "continued at another agent"
RESUMABLE = frozenset({LOST, STOPPED, MOVED})  # ends after which a page may go on
# Ends of a phone call that neither side wanted, as far as we can tell: a caller's dead zone looks like a hang-up.
CUT = RESUMABLE | {
    WORKER_DIED,
    "agent stopped",
    NO_AUDIO,
    "internal failure",
    "speech services failed",
    "the media pipeline stopped",
}
WITHHELD = frozenset({"", "anonymous", "unknown", "unavailable", "restricted", "private", "withheld"})
LOOK_S = 1.0  # a phone caller is not kept waiting for longer while an earlier call is looked for
MOST_MOVES = 20  # followed from one token


class Standing(Enum):
    """Whether a call can be gone on with."""

    OVER = "over"
    ELSEWHERE = "elsewhere"  # another agent holds it, or its lease has not expired yet
    OURS = "ours"  # this agent holds it
    FREE = "free"  # it was lost, and nobody goes on with it yet


@dataclass(frozen=True)
class Past:
    """What a call goes on with: the earlier call, its persona in the version it had, and what was said."""

    call_id: str
    persona: Persona
    version: int
    entries: Sequence[Entry]


class Returns:
    """Finds the calls to go on with."""

    def __init__(self, store: Store, personas: PersonaStore) -> None:
        self._store = store
        self._personas = personas

    async def standing(self, call_id: str) -> tuple[str, Standing]:
        """How a call stands whose page has come here, or the one that went on with it; with that one's id.

        A call whose lease has expired is marked lost on the way. One that another agent holds is asked for: that agent
        lets go of it when it renews the lease.

        Raises:
            RedisError, OSError: Redis is away.
            StateError: the call cannot be read.
        """
        stored = await self._store.stored(call_id)
        for _ in range(MOST_MOVES):
            if stored is None or not stored.continued_by:
                break
            call_id = stored.continued_by
            stored = await self._store.stored(call_id)
        if stored is None:
            return call_id, Standing.OVER
        if stored.record.state is CallState.ENDED:
            return call_id, Standing.FREE if stored.record.end_reason in RESUMABLE else Standing.OVER
        if stored.held and stored.agent == self._store.agent_id:
            return call_id, Standing.OURS
        if not stored.held and await self._store.bury(call_id):
            log.warning("a call was lost with its agent", extra={"call_id": call_id})
            return call_id, Standing.FREE
        await self._store.want(call_id)
        return call_id, Standing.ELSEWHERE

    async def past(self, call_id: str) -> Past:
        """What a call that is over leaves to go on with.

        Raises:
            RedisError, OSError: Redis is away.
            StateError: it cannot be read, or its persona's version is gone.
        """
        stored = await self._store.stored(call_id)
        if stored is None:
            raise StateError(f"no call {call_id!r}")
        return await self._past(stored)

    async def of_caller(self, leg: Leg, persona: Persona) -> Past | None:
        """What a phone caller may go on with, if the persona offers it and their last call was cut a moment ago."""
        policy = persona.resume
        if policy is None or not policy.within_s or leg.kind is LegKind.WEBRTC or not names_someone(leg.from_):
            return None
        try:
            async with asyncio.timeout(LOOK_S):
                stored = await self._last_of(leg.from_, persona.name)
                if stored is None or not _cut(stored, policy.within_s):
                    return None
                return await self._past(stored)
        except (TimeoutError, StateError, *AWAY) as error:
            log.warning("an earlier call cannot be looked for", extra={"error": type(error).__name__})
            return None

    async def _last_of(self, caller: str, persona: str) -> StoredCall | None:
        for digest in self._store.sealer.digests(caller_text(caller, persona)):
            call_id = await self._store.last_call(digest)
            if call_id:
                await self._store.bury(call_id)
                return await self._store.stored(call_id)
        return None

    async def _past(self, stored: StoredCall) -> Past:
        record = stored.record
        persona = await self._personas.load(record.persona, record.persona_version)
        entries = await self._store.past(record.call_id)
        return Past(record.call_id, persona, record.persona_version, entries)


def names_someone(caller: str) -> bool:
    """Whether a caller's number or address tells them from others; not when it is withheld (RFC 3323)."""
    user = caller.partition(":")[2] or caller
    return user.partition("@")[0].lower() not in WITHHELD


def caller_text(caller: str, persona: str) -> str:
    """What a caller's last call is found by."""
    return f"{persona} {caller}"


def _cut(stored: StoredCall, within_s: float) -> bool:
    if stored.record.state is not CallState.ENDED or stored.continued_by:
        return False
    return stored.record.end_reason in CUT and time.time() - stored.ended <= within_s
