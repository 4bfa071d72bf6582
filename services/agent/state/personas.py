"""Personas in Redis, in versions."""

import json
from typing import Any

from pydantic import ValidationError

from services.agent.personas import Persona
from services.agent.state.address import StateError
from services.agent.state.connection import Connection, Unchanged


class PersonaStore:
    """Versions of personas: each stays, the newest one also under the persona's own key."""

    def __init__(self, connection: Connection) -> None:
        self._redis = connection

    async def save(self, persona: Persona) -> int:
        """Stores a persona; returns its version, which is a new one only when its settings changed.

        Raises:
            RedisError, OSError: Redis is away.
        """
        settings = json.dumps(persona.model_dump(mode="json"), sort_keys=True)
        key = self._redis.keys.persona(persona.name)
        while True:
            stored: dict[str, Any] = await self._redis.client.hgetall(key)
            if stored.get("settings") == settings:
                return int(stored["version"])
            version = int(stored.get("version", 0)) + 1
            commands = [
                ("HSET", name, "version", version, "settings", settings)
                for name in (key, self._redis.keys.persona_version(persona.name, version))
            ]
            if await self._redis.commit(commands, Unchanged(key, "version", stored.get("version"))):
                return version

    async def load(self, name: str, version: int) -> Persona:
        """One version of a persona.

        Raises:
            StateError: there is none, or it cannot be used here.
            RedisError, OSError: Redis is away.
        """
        settings = await self._redis.client.hget(self._redis.keys.persona_version(name, version), "settings")
        if settings is None:
            raise StateError(f"no version {version} of persona {name!r}")
        try:
            return Persona.model_validate_json(settings)
        except ValidationError as error:
            raise StateError(f"version {version} of persona {name!r} cannot be used here") from error
