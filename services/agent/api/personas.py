"""Personas over HTTP."""

import re
from typing import Annotated, Any

from fastapi import APIRouter, Header, HTTPException, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from services.agent.api.access import AdminKey, ViewerKey
from services.agent.api.answers import PersonaBody, PersonaSummary, problems
from services.agent.api.keys import ApiKey
from services.agent.api.persona_bodies import BODY, YAML, Flawed, Sent
from services.agent.persona_store.desk import PersonaDesk
from services.agent.persona_store.drafts import DRAFT_S, Drafts
from services.agent.persona_store.versions import Version

_ETAG = re.compile(r'"(\d{1,9})"|(\d{1,9})|(\*)')

Name = Annotated[str, Path(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
Number = Annotated[int, Path(ge=1, le=999_999_999)]
IfMatch = Annotated[
    str | None, Header(alias="If-Match", description="ETag of the version that the change was made for; * for any")
]
_FLAWED: dict[int | str, dict[str, Any]] = {422: {"model": Flawed}}
_YAML_BODY: dict[str, Any] = {"requestBody": {"required": True, "content": {YAML: {"schema": {"type": "string"}}}}}


class PersonaList(BaseModel):
    """All personas by name."""

    personas: list[PersonaSummary]


class History(BaseModel):
    """A persona's versions, the newest first."""

    versions: list[PersonaSummary]


class Imported(BaseModel):
    """The versions that an import made; what was as it is already has none."""

    personas: list[PersonaSummary]


class Rollback(BaseModel):
    """Which version is to come back."""

    model_config = ConfigDict(extra="forbid")

    version: int = Field(ge=1, le=999_999_999)


class Draft(BaseModel):
    """A persona that can be talked to once before it is stored."""

    draft: str = Field(description="for a web page's offer: docs/webrtc.md")
    expires_s: int


class Valid(BaseModel):
    """The settings can be used, and are stored like this."""

    settings: dict[str, Any]


def personas_router(desk: PersonaDesk, drafts: Drafts) -> APIRouter:
    """The operations under `/personas`."""
    router = APIRouter(tags=["personas"])

    @router.get("/personas", dependencies=[ViewerKey], responses=problems())
    async def list_personas() -> PersonaList:
        """All personas, without their settings."""
        return PersonaList(personas=[PersonaSummary.of(version) for version in await desk.newest()])

    @router.post("/personas", status_code=201, responses=problems(409) | _FLAWED, openapi_extra=BODY)
    async def create(sent: Sent, response: Response, key: ApiKey = AdminKey) -> PersonaBody:
        """A new persona."""
        with sent.judged():
            return _answer(await desk.create(sent.content, key.name), response)

    @router.post("/personas:validate", dependencies=[AdminKey], responses=problems() | _FLAWED, openapi_extra=BODY)
    async def validate(sent: Sent) -> Valid:
        """Checks settings and stores nothing."""
        with sent.judged():
            return Valid(settings=(await desk.validate(sent.content)).settings)

    @router.get("/personas:export", dependencies=[ViewerKey], responses=problems(), response_class=Response)
    async def export_all() -> Response:
        """All personas as a YAML stream, for `personas:import`."""
        return Response(await desk.export_yaml(), media_type=YAML)

    @router.post("/personas:import", responses=problems(409, 422), openapi_extra=_YAML_BODY)
    async def import_all(request: Request, key: ApiKey = AdminKey) -> Imported:
        """Creates and replaces personas from a YAML stream: all of them, or none."""
        made = await desk.import_yaml(_text(await request.body()), key.name)
        return Imported(personas=[PersonaSummary.of(version) for version in made])

    @router.post("/personas:try", dependencies=[AdminKey], responses=problems() | _FLAWED, openapi_extra=BODY)
    async def try_out(sent: Sent) -> Draft:
        """Checks settings and stores no persona: one web call can be placed with them, within a few minutes."""
        with sent.judged():
            persona = await desk.validate(sent.content)
        return Draft(draft=await drafts.keep(persona), expires_s=DRAFT_S)

    @router.get("/personas/{name}", dependencies=[ViewerKey], responses=problems(404))
    async def get(name: Name, response: Response) -> PersonaBody:
        """One persona; the ETag is its version."""
        return _answer(await desk.get(name), response)

    @router.put("/personas/{name}", responses=problems(404, 409, 412, 428) | _FLAWED, openapi_extra=BODY)
    async def replace(
        name: Name, sent: Sent, response: Response, if_match: IfMatch = None, key: ApiKey = AdminKey
    ) -> PersonaBody:
        """New settings, all of them. The next call has them; live calls keep theirs."""
        expected = _expected(if_match)
        with sent.judged():
            return _answer(await desk.replace(name, sent.content, key.name, expected), response)

    @router.delete("/personas/{name}", status_code=204, responses=problems(404, 409, 412, 428))
    async def delete(name: Name, if_match: IfMatch = None, key: ApiKey = AdminKey) -> None:
        """Deletes it. Its versions stay: a rollback brings it back."""
        await desk.delete(name, key.name, _expected(if_match))

    @router.get("/personas/{name}/yaml", dependencies=[ViewerKey], responses=problems(404), response_class=Response)
    async def export_one(name: Name) -> Response:
        """As a file of the personas directory has it."""
        return Response(await desk.export_yaml(name), media_type=YAML)

    @router.get("/personas/{name}/history", dependencies=[ViewerKey], responses=problems(404))
    async def history(name: Name) -> History:
        """Its versions, the newest first, deletions among them; the last 500 are kept."""
        return History(versions=[PersonaSummary.of(version) for version in await desk.history(name)])

    @router.get("/personas/{name}/versions/{version}", dependencies=[ViewerKey], responses=problems(404))
    async def get_version(name: Name, version: Number) -> PersonaBody:
        """One version."""
        return PersonaBody.of(await desk.get(name, version))

    @router.get("/personas/{name}/diff", dependencies=[ViewerKey], responses=problems(404), response_class=Response)
    async def diff(
        name: Name, old: Annotated[int, Query(alias="from", ge=1)], new: Annotated[int, Query(alias="to", ge=1)]
    ) -> Response:
        """What changed between two versions: a unified diff of their YAML."""
        return Response(await desk.diff(name, old, new), media_type="text/plain")

    @router.post("/personas/{name}/rollback", responses=problems(404, 409, 412, 422, 428))
    async def rollback(
        name: Name, body: Rollback, response: Response, if_match: IfMatch = None, key: ApiKey = AdminKey
    ) -> PersonaBody:
        """A new version with the settings of an old one."""
        return _answer(await desk.rollback(name, body.version, key.name, _expected(if_match)), response)

    return router


def _answer(version: Version, response: Response) -> PersonaBody:
    response.headers["ETag"] = f'"{version.number}"'
    return PersonaBody.of(version)


def _expected(if_match: str | None) -> int | None:
    """The version that a change was made for; None for any (RFC 9110 section 13.1.1, RFC 6585 section 3)."""
    if if_match is None:
        raise HTTPException(428, 'say for which version this is: If-Match: "3" (its ETag), or * for any')
    match = _ETAG.fullmatch(if_match.strip())
    if match is None:
        raise HTTPException(422, f"If-Match must be one version in quotes, or *, not {if_match[:40]!r}")
    number = match[1] or match[2]
    return int(number) if number else None


def _text(body: bytes) -> str:
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError:
        raise HTTPException(422, "the body must be YAML in UTF-8") from None
