"""The agent's HTTP side: the web page, its WebRTC signalling, and probes."""

import asyncio
import logging
import socket
from pathlib import Path

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, ConfigDict, Field

from services.agent.carriers.desk import CarrierDesk
from services.agent.legs.base import CallRefusedError
from services.agent.legs.webrtc import BadOfferError, WebRtcLeg
from services.agent.switchboard import Switchboard

log = logging.getLogger(__name__)

WEB = Path(__file__).parent / "web"
GRACE_S = 2.0
MAX_MESSAGE_BYTES = 32 * 1024  # of a websocket: 20 ms of a call take 300


class Offer(BaseModel):
    """A browser's SDP offer."""

    model_config = ConfigDict(extra="forbid")

    sdp: str = Field(min_length=1)
    type: str = Field(pattern="^offer$")


class Answer(BaseModel):
    """Our SDP answer."""

    sdp: str
    type: str = "answer"
    call_id: str


def make_app(switchboard: Switchboard, desk: CarrierDesk | None = None) -> FastAPI:
    """The application over a switchboard; with a desk it takes carriers' calls."""
    app = FastAPI(title="Trunkline agent", docs_url=None, redoc_url=None, openapi_url=None)

    @app.post("/api/offer")
    async def offer(body: Offer, request: Request) -> Answer:
        caller = f"web:{request.client.host}" if request.client else "web:unknown"
        leg = await WebRtcLeg.from_offer(body.sdp, caller)
        try:
            call_id = await switchboard(leg)
        except CallRefusedError as error:
            await leg.hang_up(error.reason)
            raise
        return Answer(sdp=leg.sdp_answer, call_id=call_id)

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
            switchboard.around.store.reachable(), switchboard.around.models.reachable()
        )
        if not redis:
            return PlainTextResponse("Redis does not answer", status_code=503)
        if missing is not None:
            return PlainTextResponse(f"the {missing} service does not answer", status_code=503)
        return PlainTextResponse("ready")

    if desk is not None:
        app.router.routes.extend(desk.routes())
    app.mount("/", StaticFiles(directory=WEB, html=True))
    return app


class HttpServer:
    """uvicorn inside our own event loop, without its signal handlers."""

    def __init__(self, app: FastAPI, host: str, port: int) -> None:
        self._listen = (host, port)
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=int(GRACE_S),
            ws_max_size=MAX_MESSAGE_BYTES,
            ws_per_message_deflate=False,  # a phone call's audio does not get smaller
        )
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
