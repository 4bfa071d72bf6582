"""Personas in Redis. Versions never change once written; an index, one hash, says which is each persona's newest.

All keys lie in one slot (`services.agent.state.keys`), so that a change of several personas is one step, and it is made
only when the index is as it was when the change was decided upon.
"""

import asyncio
import hashlib
import json
import time
from collections.abc import Callable, Iterable

from services.agent.persona_store.versions import Change, Version, Versions, plan
from services.agent.state.connection import Command, Connection, Unchanged
from services.common.errors import UnavailableError, UnknownIdError

REVISION = "@revision"  # field of the index that each change increases; no persona can be named so
ATTEMPTS = 20
KEPT_VERSIONS = 500  # of one persona; older ones are forgotten
GATHERED = 100  # versions read at once


class Catalogue:
    """Reads and changes personas.

    Args:
        now: Unix time.
    """

    def __init__(self, connection: Connection, now: Callable[[], float] = time.time) -> None:
        self._redis = connection
        self._now = now
        self._known: dict[tuple[str, str], Version] = {}  # by name and by what the index says

    async def newest(self) -> Versions:
        """The newest version of each persona, removed ones included: as they are in Redis at this moment.

        Raises:
            RedisError, OSError: Redis is away.
        """
        _, versions = await self._read()
        return versions

    async def change(self, decide: Callable[[Versions], Iterable[Change]]) -> list[Version]:
        """Carries out changes together, or none of them; returns the versions that they made.

        Args:
            decide: the changes, for what there is; asked again when somebody else was faster.

        Raises:
            ServiceError: see `plan`; also UnavailableError, when too many others change personas at the same time.
            RedisError, OSError: Redis is away; it may have been carried out.
        """
        index = self._redis.keys.personas
        for _ in range(ATTEMPTS):
            revision, before = await self._read()
            made = plan(before, decide(before), self._now())
            if not made:
                return []
            commands: list[Command] = [("HINCRBY", index, REVISION, 1)]
            for version in made:
                commands += self._written(index, version)
            if await self._redis.commit(commands, Unchanged(index, REVISION, revision)):
                return made
            # Lost against another writer, or carried out by an attempt whose answer was lost.
            _, after = await self._read()
            if all(after.get(version.name) == version for version in made):
                return made
        raise UnavailableError("personas are being changed by many at once; try again")

    async def apply(self, *changes: Change) -> list[Version]:
        """See `change`."""
        return await self.change(lambda _: changes)

    async def version(self, name: str, number: int) -> Version:
        """One version.

        Raises:
            UnknownIdError: there is none (any more).
            RedisError, OSError: Redis is away.
        """
        version = await self._version(name, number)
        if version is None:
            raise UnknownIdError(f"no version {number} of persona {name!r}")
        return version

    async def _version(self, name: str, number: int) -> Version | None:
        fields: dict[str, str] = await self._redis.client.hgetall(self._redis.keys.persona_version(name, number))
        return Version.from_fields(name, fields) if "settings" in fields else None

    async def history(self, name: str) -> list[Version]:
        """All versions of a persona that are kept, the newest first.

        Raises:
            UnknownIdError: it was never there.
            RedisError, OSError: Redis is away.
        """
        newest = (await self.newest()).get(name)
        if newest is None:
            raise UnknownIdError(f"no persona {name!r}")
        numbers = range(newest.number, max(0, newest.number - KEPT_VERSIONS), -1)
        found: list[Version] = []
        for start in range(0, len(numbers), GATHERED):
            some = await asyncio.gather(*(self._version(name, number) for number in numbers[start : start + GATHERED]))
            found += [version for version in some if version is not None]
        return found

    def _written(self, index: str, version: Version) -> list[Command]:
        keys = self._redis.keys
        pairs = [part for pair in version.fields().items() for part in pair]
        commands: list[Command] = [
            ("HSET", index, version.name, _reference(version)),
            ("HSET", keys.persona(version.name), *pairs),
            ("HSET", keys.persona_version(version.name, version.number), *pairs),
        ]
        if version.number > KEPT_VERSIONS:
            commands.append(("DEL", keys.persona_version(version.name, version.number - KEPT_VERSIONS)))
        return commands

    async def _read(self) -> tuple[str | None, Versions]:
        """The index's revision, and the newest versions; only those are read that were not known."""
        index: dict[str, str] = await self._redis.client.hgetall(self._redis.keys.personas)
        revision = index.pop(REVISION, None)
        read = {one: self._known[one] for one in index.items() if one in self._known}
        missing = sorted(index.items() - read.keys())
        for start in range(0, len(missing), GATHERED):
            some = missing[start : start + GATHERED]
            numbers = [(name, int(reference.split(":")[0])) for name, reference in some]
            read |= zip(some, await asyncio.gather(*(self.version(*one) for one in numbers)), strict=True)
        self._known = read
        return revision, {name: version for (name, _), version in read.items()}


def _reference(version: Version) -> str:
    """What the index says of a version. Its digest tells two versions of one number apart.

    There are two when Redis lost the first one in a failover.
    """
    digest = hashlib.sha256(json.dumps(version.fields(), sort_keys=True).encode()).hexdigest()
    return f"{version.number}:{digest[:16]}"
