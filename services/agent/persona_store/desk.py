"""What an operator does with personas: one implementation, under the HTTP API."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from services.agent.persona_store.catalogue import Catalogue
from services.agent.persona_store.checks import ModelChecks, checked, from_yaml
from services.agent.persona_store.versions import Change, Source, Version, Versions, as_yaml, difference
from services.agent.personas import Persona
from services.agent.state.connection import AWAY
from services.common.errors import InvalidInputError, UnavailableError, UnknownIdError, WrongOrderError


@dataclass(frozen=True)
class Allowed:
    """What personas may ask for at this agent.

    Attributes:
        variables: patterns of environment variables that their actions may name.
        recording: there is a directory for recordings.
    """

    variables: Sequence[str] = ()
    recording: bool = False


class PersonaDesk:
    """Reads and changes the personas of all agents on one Redis.

    Every method raises UnavailableError while Redis is away, and what else stands with it.

    Args:
        default: name of this agent's default persona, which cannot be deleted.
    """

    def __init__(self, catalogue: Catalogue, models: ModelChecks, allowed: Allowed, default: str) -> None:
        self._catalogue = catalogue
        self._models = models
        self._allowed = allowed
        self._default = default

    async def newest(self) -> list[Version]:
        """All personas by name."""
        try:
            versions = await self._catalogue.newest()
        except AWAY as error:
            raise _away() from error
        return sorted((one for one in versions.values() if not one.removed), key=lambda one: one.name)

    async def get(self, name: str, number: int | None = None) -> Version:
        """A persona, or one of its versions. Raises UnknownIdError."""
        try:
            if number is not None:
                return await self._catalogue.version(name, number)
            found = (await self._catalogue.newest()).get(name)
        except AWAY as error:
            raise _away() from error
        if found is None or found.removed:
            raise UnknownIdError(f"no persona {name!r}")
        return found

    async def history(self, name: str) -> list[Version]:
        """Its versions, the newest first, a deletion among them. Raises UnknownIdError."""
        try:
            return await self._catalogue.history(name)
        except AWAY as error:
            raise _away() from error

    async def diff(self, name: str, old: int, new: int) -> str:
        """What changed between two versions, as a unified diff of their YAML. Raises UnknownIdError."""
        return difference(await self.get(name, old), await self.get(name, new))

    async def validate(self, settings: object, name: str = "") -> Persona:
        """Checks settings without storing them, as far as they can be checked without the other personas.

        Raises:
            InvalidInputError: they cannot be used.
            UnavailableError: it takes the models to tell, and they do not answer.
        """
        persona = checked(settings, self._allowed.variables, name)
        await self._fits(persona)
        return persona

    async def create(self, settings: object, by: str) -> Version:
        """A new persona. Raises as `validate`, and TakenError: its name or a number is taken."""
        persona = await self.validate(settings)
        return await self._one(Change(persona.name, persona, Source.API, by, expected=0))

    async def replace(self, name: str, settings: object, by: str, expected: int | None) -> Version:
        """New settings for a persona; no new version when nothing changes.

        Args:
            expected: the version that they were made from; None: any.

        Raises:
            UnknownIdError, StaleVersionError, TakenError: see `plan`.
        """
        persona = await self.validate(settings, name)
        return await self._one(Change(name, persona, Source.API, by, expected), must_exist=True)

    async def delete(self, name: str, by: str, expected: int | None) -> Version:
        """Deletes a persona; its versions stay, and a rollback brings it back.

        Raises:
            WrongOrderError: it is the default one.
            UnknownIdError, StaleVersionError: see `plan`.
        """
        if name == self._default:
            raise WrongOrderError(f"{name!r} is this agent's default persona (--persona) and cannot be deleted")
        return await self._one(Change(name, None, Source.API, by, expected))

    async def rollback(self, name: str, number: int, by: str, expected: int | None) -> Version:
        """A new version with an old one's settings, which are checked as any others; also of a deleted persona.

        Raises:
            UnknownIdError, StaleVersionError, TakenError, InvalidInputError.
        """
        old = await self.get(name, number)
        if old.removed:
            raise InvalidInputError(f"version {number} of persona {name!r} is its deletion")
        persona = await self.validate(old.settings, name)
        return await self._one(Change(name, persona, Source.API, by, expected))

    async def import_yaml(self, text: str, by: str) -> list[Version]:
        """Creates or replaces the personas of a YAML stream, all or none of them; returns the new versions.

        Raises:
            InvalidInputError, TakenError, WrongOrderError.
        """
        personas = from_yaml(text, self._allowed.variables)
        for persona in personas:
            await self._fits(persona)
        return await self._change(lambda _: [Change(one.name, one, Source.API, by) for one in personas])

    async def export_yaml(self, name: str = "") -> str:
        """One persona, or all of them, as files of the personas directory have them. Raises UnknownIdError."""
        versions = [await self.get(name)] if name else await self.newest()
        return "---\n".join(as_yaml(version.settings) for version in versions)

    async def _fits(self, persona: Persona) -> None:
        if persona.recording.enabled and not self._allowed.recording:
            raise InvalidInputError("recording.enabled: this agent has no directory for recordings (--recordings)")
        await self._models.check(persona)

    async def _one(self, change: Change, must_exist: bool = False) -> Version:
        def decide(newest: Versions) -> Iterable[Change]:
            found = newest.get(change.name)
            if must_exist and (found is None or found.removed):
                raise UnknownIdError(f"no persona {change.name!r}")
            return [change]

        made = await self._change(decide)
        return made[0] if made else await self.get(change.name)

    async def _change(self, decide: Callable[[Versions], Iterable[Change]]) -> list[Version]:
        try:
            return await self._catalogue.change(decide)
        except AWAY as error:
            raise _away() from error


def _away() -> UnavailableError:
    return UnavailableError("Redis does not answer; a change may have been made or not: read again")
