"""Bodies of the HTTP API's answers, and which status an error has."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, Field
from redis.exceptions import RedisError
from starlette.requests import Request
from starlette.responses import JSONResponse

from services.agent.call_desk import HeldElsewhereError, Listed
from services.agent.conversation import Entry, Role
from services.agent.persona_store.versions import StaleVersionError, Version
from services.common.errors import (
    AtCapacityError,
    ContextFullError,
    DrainingError,
    InvalidInputError,
    NotAllowedError,
    ServiceError,
    UnavailableError,
    UnknownIdError,
    WrongOrderError,
)

RETRY_S = 5
_STATUSES: dict[type[ServiceError], int] = {
    InvalidInputError: 422,
    ContextFullError: 422,
    NotAllowedError: 403,
    UnknownIdError: 404,
    StaleVersionError: 412,
    WrongOrderError: 409,
    AtCapacityError: 503,
    DrainingError: 503,
    UnavailableError: 503,
}


class Problem(BaseModel):
    """What was wrong, and what is allowed. The rest is there with 409 when another agent has the call."""

    detail: str
    agent: str | None = Field(None, description="id of the agent that has the call")
    address: str | None = Field(None, description="URL under which its API is reached; empty when it is not known")


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For an operation's `responses`; what every operation may answer is among them."""
    return {status: {"model": Problem} for status in sorted({401, 403, 429, 503, *statuses})}


async def refused(_: Request, error: Exception) -> JSONResponse:
    """The answer to a `ServiceError`."""
    status = next((_STATUSES[kind] for kind in type(error).__mro__ if kind in _STATUSES), 500)
    headers = {"Retry-After": str(RETRY_S)} if status == 503 else None
    content = {"detail": str(error)}
    if isinstance(error, HeldElsewhereError):
        content |= {"agent": error.agent, "address": error.address}
    return JSONResponse(content, status_code=status, headers=headers)


async def away(_: Request, __: Exception) -> JSONResponse:
    """The answer while Redis is away."""
    return JSONResponse({"detail": "Redis does not answer"}, status_code=503, headers={"Retry-After": str(RETRY_S)})


async def malformed(_: Request, error: Exception) -> JSONResponse:
    """The answer to a request that is not of the operation's form: each part with what is wrong."""
    found: Any = getattr(error, "errors", list)()
    told = "; ".join(f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}" for item in found)
    return JSONResponse({"detail": told}, status_code=422)


AWAY: tuple[type[Exception], ...] = (RedisError,)


class CallBody(BaseModel):
    """A call, as its record says. `from` and `to` are personal data."""

    call_id: str
    leg: str = Field(description="sip, webrtc or carrier")
    state: str = Field(description="ringing, live or ended")
    from_: str = Field(serialization_alias="from")
    to: str
    persona: str
    persona_version: int = Field(description="0: a draft, which is not stored")
    started: datetime
    end_reason: str = ""
    placed: bool = False
    outcome: str = Field("", description="of a placed call, once it is known")
    sip_status: int = 0
    agent: str = Field(description="id of the agent that has it, or had it")
    here: bool = Field(description="it is live and this agent's: what is done to it can be done here")
    may_listen: bool = Field(description="operators may listen in; false where `here` is")

    @classmethod
    def of(cls, listed: Listed) -> "CallBody":
        """From a call's record."""
        record = listed.record
        return cls(
            call_id=record.call_id,
            leg=record.leg.value,
            state=record.state.value,
            from_=record.from_,
            to=record.to,
            persona=record.persona,
            persona_version=record.persona_version,
            started=datetime.fromtimestamp(record.started, UTC),
            end_reason=record.end_reason,
            placed=record.placed,
            outcome=record.outcome.value,
            sip_status=record.sip_status,
            agent=listed.agent,
            here=listed.here,
            may_listen=listed.here and record.may_listen,
        )


class EntryBody(BaseModel):
    """A part of a conversation. The caller's speech is not turned into text: it has tokens only."""

    role: str = Field(description="system, user, assistant; rewind and reset change what was before")
    turn: int
    text: str = Field("", description="of the bot: what was heard of it")
    interrupted: bool = False
    tokens: int = Field(description="ids of the language model that it added")

    @classmethod
    def of(cls, entry: Entry) -> "EntryBody":
        """From an entry."""
        return cls(
            role=entry.role.value,
            turn=entry.turn,
            text="" if entry.role is Role.SYSTEM else entry.text,
            interrupted=entry.interrupted,
            tokens=len(entry.ids),
        )


class PersonaSummary(BaseModel):
    """A persona without its settings."""

    name: str
    version: int
    source: str = Field(description="file: it follows the agent's file; api: it was changed through the API")
    changed: datetime
    by: str = Field(description="name of the key, or of the agent that read the file")
    deleted: bool = False
    numbers: list[str] = []

    @classmethod
    def of(cls, version: Version) -> "PersonaSummary":
        """From a version."""
        return cls(**_summary(version))


class PersonaBody(PersonaSummary):
    """A persona; keys that are not among its settings are as docs/personas.md says."""

    settings: dict[str, Any]

    @classmethod
    def of(cls, version: Version) -> "PersonaBody":
        """From a version."""
        return cls(**_summary(version), settings=dict(version.settings))


def _summary(version: Version) -> Mapping[str, Any]:
    return {
        "name": version.name,
        "version": version.number,
        "source": version.source.value,
        "changed": datetime.fromtimestamp(version.changed, UTC),
        "by": version.by,
        "deleted": version.removed,
        "numbers": sorted(version.numbers),
    }
