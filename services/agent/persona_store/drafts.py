"""Personas that are tried before they are stored: kept for some minutes, for one call, under a token."""

import hashlib
import json
import secrets

from pydantic import ValidationError

from services.agent.personas import Persona
from services.agent.state.connection import AWAY, Connection
from services.agent.state.sealing import Sealer
from services.common.errors import InvalidInputError, UnavailableError

DRAFT_S = 300
TOKEN_BYTES = 24
GONE = "draft: is not known (any more): each is for one call, within five minutes"


class Drafts:
    """Drafts of all agents on one Redis. All methods raise UnavailableError while it is away."""

    def __init__(self, connection: Connection, sealer: Sealer) -> None:
        self._redis = connection
        self._sealer = sealer

    async def keep(self, persona: Persona) -> str:
        """Keeps it for `DRAFT_S`; returns the token."""
        token = secrets.token_urlsafe(TOKEN_BYTES)
        digest = _digest(token)
        content = json.dumps(persona.settings)
        value = f"sealed {self._sealer.seal(content, _context(digest))}" if self._sealer.seals else f"plain {content}"
        try:
            await self._redis.client.set(self._redis.keys.draft(digest), value, ex=DRAFT_S)
        except AWAY as error:
            raise UnavailableError("Redis does not answer") from error
        return token

    async def take(self, token: str) -> Persona:
        """The persona of a token, which is good for nothing afterwards.

        Raises:
            InvalidInputError: there is none.
        """
        digest = _digest(token)
        try:
            value: str | None = await self._redis.client.getdel(self._redis.keys.draft(digest))
        except AWAY as error:
            raise UnavailableError("Redis does not answer") from error
        if value is None:
            raise InvalidInputError(GONE)
        form, _, content = value.partition(" ")
        try:
            return Persona.model_validate_json(
                self._sealer.open(content, _context(digest)) if form == "sealed" else content
            )
        except ValidationError:  # another agent's, which knows variables that are not set here
            raise InvalidInputError("draft: cannot be used by this agent") from None


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _context(digest: str) -> str:
    return f"draft:{digest}"
