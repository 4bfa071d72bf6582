"""The HTTP side of carriers: the webhook that asks about a call, and the websocket that brings its media.

A webhook counts only with the carrier's signature. It reserves everything that the call needs to speak, and the answer
names a websocket address with a secret in it that works once, for this call, until the call gives up waiting for it.
"""

import asyncio
import logging
import secrets
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import Receive, Scope, Send

from services.agent.carriers.base import Carrier, ProtocolError, SignatureError, Webhook
from services.agent.legs.base import CallAcceptor, CallRefusedError
from services.agent.legs.carrier import CarrierLeg, MediaSocket

log = logging.getLogger(__name__)

PATH = "/carriers"
MAX_BODY_BYTES = 64 * 1024
READY_S = 10.0  # carriers give a webhook 15 s
SECRET_BYTES = 32
REMEMBERED = 10_000  # calls that are over: not every signature has a time in it, and a replayed one must not count


@dataclass
class _Call:
    """A call from its webhook to its end."""

    leg: CarrierLeg
    secret: str = ""  # of its websocket; empty before the call is ready and after the websocket came


class CarrierDesk:
    """Takes calls of the carriers that are set up.

    Args:
        public_url: `https://host[:port][/prefix]`, where the carriers find this agent's `PATH`; it is signed with.
        media_url: the same with `wss://`, where they find this very process: the one that took the webhook.
        clock: Unix time.
    """

    def __init__(
        self,
        carriers: Iterable[Carrier],
        acceptor: CallAcceptor,
        public_url: str,
        media_url: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._carriers = {carrier.name: carrier for carrier in carriers}
        self._acceptor = acceptor
        self._public_url = public_url.rstrip("/")
        self._media_url = media_url.rstrip("/")
        self._clock = clock
        self._calls: dict[tuple[str, str], _Call] = {}
        self._over: deque[tuple[str, str]] = deque(maxlen=REMEMBERED)

    def routes(self) -> list[BaseRoute]:
        """For the application, in front of anything that matches every path."""
        return [
            Route(PATH + "/{carrier}/voice", self._voice, methods=["POST"]),
            WebSocketRoute(PATH + "/{carrier}/media/{secret}", _Endpoint(self._media)),
        ]

    async def _voice(self, request: Request) -> Response:
        """The carrier asks what to do with a call."""
        carrier = self._carriers.get(request.path_params["carrier"])
        if carrier is None:
            return _refusal(404, "no such carrier is set up")
        body = await _body(request)
        if body is None:
            return _refusal(413, f"a webhook has at most {MAX_BODY_BYTES} bytes")
        query = f"?{request.url.query}" if request.url.query else ""
        webhook = Webhook(self._public_url + request.url.path + query, request.headers, body)
        try:
            carrier.verify(webhook, self._clock())
            return await self._answer(carrier, webhook)
        except SignatureError as error:
            log.warning("a webhook was refused", extra={"carrier": carrier.name, "why": str(error)})
            return _refusal(error.status, str(error))
        except ProtocolError as error:
            return _refusal(400, str(error))

    async def _answer(self, carrier: Carrier, webhook: Webhook) -> Response:
        announced = carrier.announced(webhook)
        key = carrier.name, announced.call_id
        call = self._calls.get(key)
        if key in self._over or (call is not None and not call.secret):
            return _refusal(409, "this call was answered already")
        if call is None:
            call = self._calls[key] = _Call(CarrierLeg(carrier, announced))
            call.leg.ended.add_done_callback(lambda _: self._forget(key))
            try:
                await self._ready(call.leg)
            except CallRefusedError as error:
                await call.leg.hang_up(error.reason)
                # The carriers hear a refusal in XML; an HTTP error would have them play an error message.
                return _xml(carrier.busy(), error.retry_after_s)
            except BaseException:
                await call.leg.hang_up("internal failure")
                raise
            call.secret = secrets.token_urlsafe(SECRET_BYTES)
        return _xml(carrier.connect(f"{self._media_url}{PATH}/{carrier.name}/media/{call.secret}"))

    async def _ready(self, leg: CarrierLeg) -> None:
        """Raises CallRefusedError, when the models are too slow as well."""
        late = asyncio.get_running_loop().call_later(READY_S, leg.give_up)
        try:
            await self._acceptor(leg)
        finally:
            late.cancel()

    async def _media(self, socket: MediaSocket) -> None:
        """The carrier brings a call's media."""
        call = self._redeem(socket.path_params["carrier"], socket.path_params["secret"])
        if call is None:
            log.warning("a media websocket was refused")
            await socket.close()  # before it was accepted: HTTP 403
            return
        await call.leg.serve(socket)

    def _forget(self, key: tuple[str, str]) -> None:
        del self._calls[key]
        self._over.append(key)

    def _redeem(self, name: str, secret: str) -> _Call | None:
        for (carrier, _), call in self._calls.items():
            if call.secret and carrier == name and secrets.compare_digest(call.secret.encode(), secret.encode()):
                call.secret = ""
                return call
        return None


class _Endpoint:
    """What starlette takes for an ASGI application; a function would be given a websocket of its own make."""

    def __init__(self, serve: Callable[[MediaSocket], Awaitable[None]]) -> None:
        self._serve = serve

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._serve(MediaSocket(scope, receive, send))


async def _body(request: Request) -> bytes | None:
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_BODY_BYTES:
            return None
    return bytes(body)


def _xml(content: str, retry_after_s: int | None = None) -> Response:
    headers = {} if retry_after_s is None else {"Retry-After": str(retry_after_s)}
    return Response('<?xml version="1.0" encoding="UTF-8"?>' + content, media_type="application/xml", headers=headers)


def _refusal(status: int, detail: str) -> JSONResponse:
    return JSONResponse({"detail": detail}, status_code=status)
