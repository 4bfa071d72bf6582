"""Voices over HTTP."""

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, File, Form, Path, Response, UploadFile
from pydantic import BaseModel, ConfigDict, Field
from starlette.formparsers import MultiPartParser

from services.agent.api.access import AdminKey, OperatorKey, ViewerKey
from services.agent.api.answers import problems
from services.agent.api.keys import ApiKey, Role
from services.agent.voices import clip
from services.agent.voices.desk import MAX_TEXT, NAME, Shown, VoiceDesk
from services.agent.voices.store import MAX_VOICES, Consent

FORM_BYTES = 64 * 1024  # of an upload besides the clip
WAV = "audio/wav"
_WAV: dict[int | str, dict[str, Any]] = {
    200: {"description": "a WAV file", "content": {WAV: {"schema": {"type": "string", "format": "binary"}}}}
}

Name = Annotated[str, Path(pattern=NAME)]


class ConsentBody(BaseModel):
    """Who agreed that their voice is used."""

    who: str
    when: str = Field(description="a day, YYYY-MM-DD")
    note: str


class ReadyBody(BaseModel):
    """Decoders, as this agent sees them."""

    ready: int = Field(description="know the voice")
    serving: int


class VoiceBody(BaseModel):
    """A voice."""

    name: str
    id: str = Field(description="at the decoders, which derive it from the clip")
    seconds: float = Field(description="of the clip")
    created: datetime
    by: str = Field(description="name of the key")
    used_by: list[str] = Field(description="personas that speak with it")
    replicas: ReadyBody
    consent: ConsentBody | None = Field(None, description="for admins")

    @classmethod
    def of(cls, shown: Shown, consent: Consent | None = None) -> "VoiceBody":
        """From what is known of it."""
        voice = shown.voice
        return cls(
            name=voice.name,
            id=voice.voice_id,
            seconds=voice.seconds,
            created=datetime.fromtimestamp(voice.created, UTC),
            by=voice.by,
            used_by=shown.used_by,
            replicas=ReadyBody(ready=shown.ready, serving=shown.serving),
            consent=ConsentBody(**vars(consent)) if consent is not None else None,
        )


class LimitsBody(BaseModel):
    """What may be uploaded."""

    min_s: float = clip.MIN_S
    max_s: float = clip.MAX_S
    max_bytes: int = clip.MAX_BYTES
    most: int = Field(MAX_VOICES, description="voices")


class VoicesBody(BaseModel):
    """All voices by name."""

    voices: list[VoiceBody]
    limits: LimitsBody = LimitsBody()
    can_register: bool
    why_not: str = ""


class Text(BaseModel):
    """What is to be said."""

    model_config = ConfigDict(extra="forbid")

    text: str = Field(min_length=1, max_length=MAX_TEXT)


def voices_router(desk: VoiceDesk) -> APIRouter:
    """The operations under `/voices`."""
    # A clip is biometric data: it stays in memory. Starlette writes longer ones to a temporary file unless told.
    MultiPartParser.spool_max_size = clip.MAX_BYTES + FORM_BYTES
    router = APIRouter(tags=["voices"])

    async def body(shown: Shown, key: ApiKey) -> VoiceBody:
        consent = await desk.consent(shown.voice.name) if key.role.includes(Role.ADMIN) else None
        return VoiceBody.of(shown, consent)

    @router.get("/voices", responses=problems())
    async def list_all(key: ApiKey = ViewerKey) -> VoicesBody:
        """All voices, and whether more can be registered now."""
        voices = [await body(shown, key) for shown in await desk.all()]
        return VoicesBody(voices=voices, can_register=not desk.why_not, why_not=desk.why_not)

    @router.post(
        "/voices", status_code=201, responses=problems(409, 413, 422), max_body_size=clip.MAX_BYTES + FORM_BYTES
    )
    async def create(
        name: Annotated[str, Form(pattern=NAME)],
        consent_who: Annotated[str, Form(description="whose voice it is, and who agreed that it is used")],
        consent_when: Annotated[str, Form(description="the day on which they did, YYYY-MM-DD")],
        consent_note: Annotated[str, Form(description="how, and to what: free text")],
        clip: Annotated[UploadFile, File(description="a WAV file of 3 to 30 s, 16 to 48 kHz, one or two channels")],
        response: Response,
        key: ApiKey = AdminKey,
    ) -> VoiceBody:
        """A new voice from a reference clip. It is known to all decoders when this answers."""
        consent = Consent(consent_who.strip(), consent_when.strip(), consent_note.strip())
        shown = await desk.create(name, consent, await clip.read(), key.name)
        response.headers["Location"] = f"voices/{name}"
        return VoiceBody.of(shown, consent)

    @router.get("/voices/{name}", responses=problems(404))
    async def get(name: Name, key: ApiKey = ViewerKey) -> VoiceBody:
        """One voice."""
        return await body(await desk.get(name), key)

    @router.delete("/voices/{name}", status_code=204, responses=problems(404, 409))
    async def delete(name: Name, key: ApiKey = AdminKey) -> None:
        """Deletes it everywhere; not while a persona speaks with it."""
        await desk.delete(name, key.name)

    @router.post(
        "/voices/{name}:try",
        dependencies=[OperatorKey],
        response_class=Response,
        responses={**problems(404, 422), **_WAV},
    )
    async def hear(name: Name, text: Text) -> Response:
        """A text in this voice; `default` is the decoders' own."""
        return Response(await desk.hear(name, text.text), media_type=WAV)

    return router
