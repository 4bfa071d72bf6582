"""Where an agent's personas come from: its files, Redis, or both."""

import logging
from collections.abc import Mapping

from services.agent.persona_store.book import FixedBook, LiveBook, PersonaBook, StoredPersona
from services.agent.persona_store.catalogue import Catalogue
from services.agent.persona_store.checks import ModelChecks
from services.agent.persona_store.desk import Allowed, PersonaDesk
from services.agent.persona_store.versions import Change, Versions, from_files
from services.agent.personas import Persona, PersonaError
from services.agent.settings import AgentSettings
from services.agent.state.connection import AWAY, Connection
from services.agent.state.personas import PersonaStore
from services.common.errors import ServiceError

log = logging.getLogger(__name__)


async def set_up_personas(
    settings: AgentSettings, files: Mapping[str, Persona], connection: Connection, checks: ModelChecks, agent_id: str
) -> tuple[PersonaBook, PersonaDesk | None]:
    """Stores what the files say, as far as it counts, and gives what calls and operators look personas up in.

    Raises:
        PersonaError: a file's persona cannot be used.
        OSError: Redis went away.
    """
    try:
        for persona in files.values():
            await checks.check(persona)
        if settings.persona_files == "only":
            saved = PersonaStore(connection)
            stored = {name: StoredPersona(persona, await saved.save(persona)) for name, persona in files.items()}
            return FixedBook(stored, settings.persona), None
        catalogue = Catalogue(connection)
        ignored: list[str] = []

        def decide(newest: Versions) -> list[Change]:
            changes, ignored[:] = from_files(newest, files, settings.persona, agent_id)
            return changes

        await catalogue.change(decide)
        for name in ignored:
            log.warning(
                "a persona's file does not count: it was changed through the API since", extra={"persona": name}
            )
        allowed = Allowed(settings.allowed_variables, bool(settings.recordings))
        desk = PersonaDesk(catalogue, checks, allowed, settings.persona)
        return LiveBook(catalogue, await catalogue.newest(), settings.persona), desk
    except ServiceError as error:
        raise PersonaError(str(error)) from error
    except AWAY as error:
        raise OSError(f"Redis does not answer: {' '.join(str(error).split())}") from error
