"""The HTTP API as one application, mounted under `/api/v1`. docs/api.md is its manual, `openapi.json` its contract."""

from dataclasses import dataclass

from fastapi import APIRouter, FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.telemetry import TelemetryConfig

from services.agent.api import answers
from services.agent.api.calls import calls_router
from services.agent.api.keys import KeyRing
from services.agent.api.listening import listening_router
from services.agent.api.middleware import Authentication
from services.agent.api.persona_bodies import FlawedSettingsError, flawed
from services.agent.api.personas import personas_router
from services.agent.api.rates import Rates
from services.agent.api.system import system_router
from services.agent.api.voices import voices_router
from services.agent.call_desk import CallDesk
from services.agent.persona_store.desk import PersonaDesk
from services.agent.persona_store.drafts import Drafts
from services.agent.state.agents import AgentDirectory
from services.agent.supervision.desk import ListeningDesk
from services.agent.voices.desk import VoiceDesk
from services.common.errors import ServiceError, WrongOrderError

PATH = "/api/v1"
MAX_BODY_BYTES = 1024 * 1024
OPENAPI = "/openapi.json"
# FastAPI's own spans and log records quote paths, queries and exceptions, in which numbers and names stand
QUIET: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}


@dataclass(frozen=True)
class Doors:
    """Who is let in, and how often.

    Attributes:
        keys: of the API.
        page_key: of the web pages' signalling; an empty ring: none is needed.
        per_key: limit on requests with one key.
        per_stranger: limit on requests without a key to the API, for each client address.
        per_page: limit on requests to the signalling, for each client address.
    """

    keys: KeyRing
    page_key: KeyRing
    per_key: str
    per_stranger: str
    per_page: str


@dataclass(frozen=True)
class Desks:
    """What the API stands on.

    Attributes:
        personas: None when they are managed by files alone.
    """

    calls: CallDesk
    listening: ListeningDesk
    agents: AgentDirectory
    voices: VoiceDesk
    personas: PersonaDesk | None
    drafts: Drafts


def make_api(doors: Doors, desks: Desks) -> FastAPI:
    """The application."""
    api = FastAPI(
        telemetry=QUIET,
        title="Trunkline agent",
        version="1",
        description="Calls and personas of an agent. Every request needs a key: `Authorization: Bearer KEY`.",
        docs_url=None,
        redoc_url=None,
        openapi_url=OPENAPI,
        max_body_size=MAX_BODY_BYTES,
        # tells nobody which frameworks are behind it
        swagger_ui_oauth2_redirect_url=None,
    )
    api.add_exception_handler(ServiceError, answers.refused)
    api.add_exception_handler(FlawedSettingsError, flawed)
    api.add_exception_handler(RequestValidationError, answers.malformed)
    for kind in answers.AWAY:
        api.add_exception_handler(kind, answers.away)
    api.add_middleware(
        Authentication,
        keys=doors.keys,
        rates=Rates(doors.per_key),
        failures=Rates(doors.per_stranger),
        open_paths=(OPENAPI,),
    )
    switchboard = desks.calls.switchboard
    api.include_router(system_router(switchboard.around.models, desks.agents, switchboard.agent_id))
    api.include_router(calls_router(desks.calls))
    api.include_router(listening_router(desks.listening))
    api.include_router(voices_router(desks.voices))
    api.include_router(personas_router(desks.personas, desks.drafts) if desks.personas is not None else _files_only())
    return api


def _files_only() -> APIRouter:
    router = APIRouter(include_in_schema=False)

    @router.api_route("/personas{rest:path}", methods=["GET", "POST", "PUT", "DELETE"])
    async def managed_elsewhere(rest: str) -> None:
        raise WrongOrderError("personas of this agent come from its files alone (--persona-files only)")

    return router
