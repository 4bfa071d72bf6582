"""Who answers a call: the personas of this moment, as they are in Redis, or as they were last known."""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from pydantic import ValidationError

from services.agent.persona_store.catalogue import Catalogue
from services.agent.persona_store.versions import Change, Version, Versions
from services.agent.personas import Persona, persona_for
from services.agent.state.connection import AWAY
from services.common.errors import InvalidInputError

log = logging.getLogger(__name__)

PATIENCE_S = 5.0  # a call that begins waits for Redis so long: a busy one is not away
AWAY_PATIENCE_S = 1.0  # and so long once it was away


@dataclass(frozen=True)
class StoredPersona:
    """A persona and the version that Redis gave it."""

    persona: Persona
    version: int


class PersonaBook(Protocol):
    """Finds the persona of a call that begins. The call keeps what it gets."""

    default: str

    async def answering(self, to: str) -> StoredPersona:
        """The persona that answers a called number or URI."""

    async def named(self, name: str) -> StoredPersona:
        """A persona by its name; empty: the default one.

        Raises:
            InvalidInputError: there is none.
        """

    async def speaking_with(self, voice: str) -> list[str]:
        """Names of the personas that have this voice."""


class FixedBook:
    """Personas that do not change while the agent runs: those of its files."""

    def __init__(self, personas: Mapping[str, StoredPersona], default: str) -> None:
        self.default = default
        self._personas = personas

    async def answering(self, to: str) -> StoredPersona:
        """See `PersonaBook`."""
        return _answering(self._personas, to, self.default)

    async def named(self, name: str) -> StoredPersona:
        """See `PersonaBook`."""
        return _named(self._personas, name or self.default)

    async def speaking_with(self, voice: str) -> list[str]:
        """See `PersonaBook`."""
        return _speaking(self._personas, voice)


class LiveBook:
    """Personas as they are in Redis when a call begins.

    What was last known serves while Redis is away; so does the default persona after another agent's operator deleted
    it, and any persona whose newest version this agent cannot use (it names a variable that is not set here, say).

    Args:
        known: what there is at the agent's start.
        patience_s: how long a call waits for Redis; the second one when it did not answer the call before.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        known: Versions,
        default: str,
        patience_s: tuple[float, float] = (PATIENCE_S, AWAY_PATIENCE_S),
    ) -> None:
        self.default = default
        self._catalogue = catalogue
        self._patience_s = patience_s
        self._parsed: dict[str, StoredPersona] = {}
        self._versions: Versions = {}
        self._away = False
        self._complained: set[tuple[str, int]] = set()
        self._take(known)
        if default not in self._parsed:
            raise InvalidInputError(f"no usable persona {default!r}")

    async def answering(self, to: str) -> StoredPersona:
        """See `PersonaBook`."""
        return _answering(await self._now(), to, self.default)

    async def named(self, name: str) -> StoredPersona:
        """See `PersonaBook`."""
        return _named(await self._now(), name or self.default)

    async def speaking_with(self, voice: str) -> list[str]:
        """See `PersonaBook`."""
        return _speaking(await self._now(), voice)

    async def _now(self) -> Mapping[str, StoredPersona]:
        try:
            async with asyncio.timeout(self._patience_s[self._away]):
                newest = await self._catalogue.newest()
                if not newest:
                    await self._restore()
                    newest = await self._catalogue.newest()
        except (*AWAY, TimeoutError) as error:
            if not self._away:
                log.warning("Redis is away: the last known personas serve", extra={"error": type(error).__name__})
            self._away = True
            return self._parsed
        self._away = False
        self._take(newest)
        return self._parsed

    async def _restore(self) -> None:
        """Redis answers and has no personas: it lost its data, and gets back what was last known."""
        log.warning("Redis has lost the personas; it gets the last known ones")
        wishes = [
            Change(one.name, self._parsed[one.name].persona, one.source, one.by)
            for one in self._versions.values()
            if not one.removed and one.name in self._parsed
        ]
        await self._catalogue.change(lambda newest: () if newest else wishes)

    def _take(self, newest: Versions) -> None:
        parsed: dict[str, StoredPersona] = {}
        for name, version in newest.items():
            before = self._parsed.get(name)
            if not version.removed and (usable := self._usable(version, before)) is not None:
                parsed[name] = usable
            elif name == self.default and before is not None:
                parsed[name] = before
                self._complain("the default persona was deleted; its last version serves", version)
        self._parsed, self._versions = parsed, newest

    def _usable(self, version: Version, before: StoredPersona | None) -> StoredPersona | None:
        if before is not None and before.version == version.number and self._versions.get(version.name) == version:
            return before
        try:
            return StoredPersona(Persona.model_validate(version.settings), version.number)
        except ValidationError:
            self._complain("a persona's newest version cannot be used by this agent; the one before serves", version)
            return before

    def _complain(self, text: str, version: Version) -> None:
        if (version.name, version.number) not in self._complained:
            self._complained.add((version.name, version.number))
            log.error(text, extra={"persona": version.name, "version": version.number})


def _answering(personas: Mapping[str, StoredPersona], to: str, default: str) -> StoredPersona:
    by_name = {name: stored.persona for name, stored in personas.items()}
    return personas[persona_for(to, by_name, default).name]


def _named(personas: Mapping[str, StoredPersona], name: str) -> StoredPersona:
    stored = personas.get(name)
    if stored is None:
        raise InvalidInputError(f"no persona {name!r}; there are: {', '.join(sorted(personas))}")
    return stored


def _speaking(personas: Mapping[str, StoredPersona], voice: str) -> list[str]:
    return sorted(name for name, stored in personas.items() if stored.persona.voice == voice)
