"""The agent's HTTP side: the web page, its WebRTC signalling (docs/webrtc.md), and probes."""

import asyncio
import logging
import socket
import ssl
from collections.abc import Sequence
from pathlib import Path

import uvicorn
from fastapi import FastAPI, Request
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, ConfigDict, Field
from starlette.types import ASGIApp

from services.agent.api import answers
from services.agent.api.app import PATH, QUIET, Doors
from services.agent.api.middleware import AccessLog, PageGate, SecurityHeaders, casts
from services.agent.api.rates import Rates
from services.agent.carriers.desk import CarrierDesk
from services.agent.casting import Casting
from services.agent.legs.base import CallRefusedError
from services.agent.legs.webrtc_sdp import BadOfferError, candidate_of
from services.agent.switchboard import Switchboard
from services.agent.web_calls import GoneError, WebCalls
from services.common.errors import ServiceError

log = logging.getLogger(__name__)

WEB = Path(__file__).parent / "web"
GRACE_S = 2.0
SIGNALLING = ("/api/offer", "/api/ice-servers")
MAX_BODY_BYTES = 256 * 1024  # of a request; the API takes larger ones
MAX_MESSAGE_BYTES = 32 * 1024  # of a websocket: 20 ms of a call take 300
MAX_CANDIDATES = 100
TOKEN_CHARACTERS = 200


class Offer(BaseModel):
    """A browser's SDP offer: of a new call, or with `pc_id` for the call it had. Pipecat's clients send the rest.

    A new call may say who is to answer: a persona by name, or a draft of one.
    """

    model_config = ConfigDict(extra="forbid")

    sdp: str = Field(min_length=1)
    type: str = Field(pattern="^offer$")
    pc_id: str | None = Field(None, max_length=TOKEN_CHARACTERS)
    restart_pc: bool | None = None
    persona: str | None = Field(None, max_length=64)
    draft: str | None = Field(None, max_length=TOKEN_CHARACTERS)
    request_data: dict[str, object] | None = Field(None, alias="requestData")


class Answer(BaseModel):
    """Our SDP answer. `pc_id` is the secret with which its page, and no other, comes back to the call."""

    sdp: str
    type: str = "answer"
    call_id: str
    pc_id: str
    resume_s: float


class Candidate(BaseModel):
    """One ICE candidate, as `RTCIceCandidate` has it; an empty one ends them."""

    model_config = ConfigDict(extra="forbid")

    candidate: str
    sdp_mid: str | None = None
    sdp_mline_index: int | None = None


class Trickle(BaseModel):
    """ICE candidates found after the offer (RFC 8838)."""

    model_config = ConfigDict(extra="forbid")

    pc_id: str = Field(max_length=TOKEN_CHARACTERS)
    candidates: list[Candidate] = Field(max_length=MAX_CANDIDATES)


class Goodbye(BaseModel):
    """The page ends its call."""

    model_config = ConfigDict(extra="forbid")

    pc_id: str = Field(max_length=TOKEN_CHARACTERS)


def make_app(
    switchboard: Switchboard,
    web_calls: WebCalls,
    casting: Casting,
    doors: Doors,
    api: FastAPI,
    origins: Sequence[str] = (),
    desk: CarrierDesk | None = None,
    tls: bool = False,
) -> ASGIApp:
    """The application over a switchboard.

    Args:
        casting: finds the persona that a page asks for.
        doors: who may call the signalling, and how often.
        api: what lies under `services.agent.api.app.PATH`.
        origins: of other pages that may place calls.
        desk: takes carriers' calls; None: there are none.
        tls: it is served over HTTPS.
    """
    app = FastAPI(
        telemetry=QUIET,
        title="Trunkline agent",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        max_body_size=MAX_BODY_BYTES,
    )
    app.add_middleware(
        PageGate, paths=SIGNALLING, rates=Rates(doors.per_page), page_key=doors.page_key, keys=doors.keys
    )
    app.add_exception_handler(ServiceError, answers.refused)
    if origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(origins),
            allow_methods=["GET", "POST", "PATCH", "DELETE"],
            allow_headers=["Authorization", "Content-Type"],
            expose_headers=["Retry-After"],
        )

    @app.get("/api/ice-servers")
    async def ice_servers() -> JSONResponse:
        body = {"iceServers": web_calls.ice_servers(), "ttl_s": web_calls.ice_ttl_s}
        return JSONResponse(body, headers={"Cache-Control": "no-store"})

    @app.post("/api/offer")
    async def offer(body: Offer, request: Request) -> Answer:
        caller = f"web:{request.client.host}" if request.client else "web:unknown"
        if body.pc_id:
            answered = await web_calls.resume(body.pc_id, body.sdp, bool(body.restart_pc), caller)
        else:
            wanted = await casting.persona(body.persona, body.draft, casts(request.scope.get("state", {})))
            answered = await web_calls.place(body.sdp, caller, wanted)
        patience_s = web_calls.patience_s
        return Answer(sdp=answered.sdp, call_id=answered.call_id, pc_id=answered.token, resume_s=patience_s)

    @app.patch("/api/offer", status_code=204)
    async def trickle(body: Trickle) -> Response:
        candidates = [candidate_of(item.candidate, item.sdp_mid, item.sdp_mline_index) for item in body.candidates]
        await web_calls.trickle(body.pc_id, candidates)
        return Response(status_code=204)

    @app.delete("/api/offer", status_code=204)
    async def goodbye(body: Goodbye) -> Response:
        await web_calls.hang_up(body.pc_id)
        return Response(status_code=204)

    @app.exception_handler(GoneError)
    async def gone(_: Request, error: GoneError) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, status_code=404)

    @app.exception_handler(BadOfferError)
    async def bad_offer(_: Request, error: BadOfferError) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, status_code=400)

    @app.exception_handler(CallRefusedError)
    async def refused(_: Request, error: CallRefusedError) -> JSONResponse:
        headers = {"Retry-After": str(error.retry_after_s)}
        return JSONResponse({"detail": error.reason}, status_code=503, headers=headers)

    @app.get("/healthz")
    async def healthz() -> PlainTextResponse:
        return PlainTextResponse("ok")

    @app.get("/readyz")
    async def readyz() -> PlainTextResponse:
        if switchboard.slots.draining:
            return PlainTextResponse("draining", status_code=503)
        redis, missing = await asyncio.gather(
            switchboard.around.store.redis.reachable(), switchboard.around.models.reachable()
        )
        if not redis:
            return PlainTextResponse("Redis does not answer", status_code=503)
        if missing is not None:
            return PlainTextResponse(f"the {missing} service does not answer", status_code=503)
        return PlainTextResponse("ready")

    if desk is not None:
        app.router.routes.extend(desk.routes())
    app.mount(PATH, api)
    app.mount("/", StaticFiles(directory=WEB, html=True))
    return AccessLog(SecurityHeaders(app, PATH, tls))


class HttpServer:
    """uvicorn inside our own event loop, without its signal handlers.

    Args:
        certificate: PEM files of chain and private key, for HTTPS.
    """

    def __init__(self, app: ASGIApp, host: str, port: int, certificate: tuple[Path, Path] | None = None) -> None:
        self._listen = (host, port)
        chain, key = certificate or (None, None)
        config = uvicorn.Config(
            app,
            log_config=None,  # its own would show exceptions whole
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=int(GRACE_S),
            ws_max_size=MAX_MESSAGE_BYTES,
            ws_per_message_deflate=False,  # a phone call's audio does not get smaller
            ssl_certfile=chain,
            ssl_keyfile=key,
        )
        try:
            config.load()
        except (OSError, ssl.SSLError) as error:
            raise OSError(f"the certificate {chain} with the key {key} cannot be used: {error}") from error
        self._server = uvicorn.Server(config)
        self._task: asyncio.Task[None] | None = None
        self.port = 0

    async def start(self) -> int:
        """Opens the port and serves; returns the port.

        Raises:
            OSError: the address cannot be listened on.
        """
        host, port = self._listen
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, port))
            listener.listen(128)
        except OSError as error:
            listener.close()
            raise OSError(f"cannot listen on {host}:{port} (HTTP): {error.strerror}") from error
        listener.setblocking(False)
        self.port = int(listener.getsockname()[1])
        self._task = asyncio.create_task(self._serve(listener), name="http")
        return self.port

    async def _serve(self, listener: socket.socket) -> None:
        # `_serve` skips the signal handlers that `serve` would install over ours.
        await self._server._serve(sockets=[listener])

    async def stop(self) -> None:
        """Finishes running requests for a moment, then stops."""
        self._server.should_exit = True
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=GRACE_S + 1.0)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
