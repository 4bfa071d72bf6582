"""What every HTTP request passes: the access log, security headers, limits per client, and for the API its key."""

import logging
from collections.abc import Mapping
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.agent.api.keys import ApiKey, KeyRing, Role
from services.agent.api.rates import Rates, address_group

log = logging.getLogger("services.agent.access")

_API_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Frame-Options": "DENY",
}
# Pages run no script and load no file but the agent's own; a voice that was made for the console is played from memory.
_PAGE_HEADERS = {
    "Cache-Control": "no-cache",  # after an upgrade no page mixes old modules with new ones
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "media-src 'self' blob: mediastream:; base-uri 'none'; form-action 'none'"
    ),
}
_CONSOLE_HEADERS = {
    **_PAGE_HEADERS,
    "Content-Security-Policy": f"{_PAGE_HEADERS['Content-Security-Policy']}; frame-ancestors 'none'",
    "X-Frame-Options": "DENY",
}
_HEADERS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
_OURS = ("/api/v1", "/api", "/carriers")
_PROBES = ("/healthz", "/readyz")
REALM = 'Bearer realm="trunkline"'


class AccessLog:
    """One line for each request to one of our routes; files of the page have none.

    It holds no path, query or address: the route's template says what was asked for, and the key's name who did.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 0

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, sending)
        finally:
            if route := _template(scope):
                extra = {"method": _method(scope), "route": route, "status": status}
                key = scope.get("state", {}).get("api_key")
                level = logging.DEBUG if route in _PROBES else logging.INFO
                log.log(level, "request", extra={**extra, **({"key": key.name} if key is not None else {})})


def _template(scope: Scope) -> str:
    """Such as `/api/v1/calls/{call_id}`; empty for what is not logged.

    What was refused before its route was known, or has none, is told by its beginning: `/api/v1/-`.
    """
    root = scope.get("root_path", "")
    path = str(getattr(scope.get("route"), "path", ""))
    if path not in ("", root):
        return path if path.startswith(root) else root + path
    return next((f"{begin}/-" for begin in _OURS if scope["path"].startswith(f"{begin}/")), "")


def _method(scope: Scope) -> str:
    known = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
    return scope["method"] if scope["method"] in known else "-"


class SecurityHeaders:
    """Headers of every answer; the API's are the strictest, and the console's stricter than those of the callers' page.

    Args:
        api: path under which the API lies.
        tls: browsers are told to come back by HTTPS only (RFC 6797).
    """

    def __init__(self, app: ASGIApp, api: str, tls: bool) -> None:
        self._app = app
        self._api = api
        self._headers = {**_HEADERS, **({"Strict-Transport-Security": "max-age=31536000"} if tls else {})}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        wanted = {**self._headers, **self._of_path(scope["path"])}

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in wanted.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, sending)

    def _of_path(self, path: str) -> Mapping[str, str]:
        if path.startswith(self._api):
            return _API_HEADERS
        return _CONSOLE_HEADERS if path.startswith("/console") else _PAGE_HEADERS


class PageGate:
    """Stands before what web pages call: so many requests per client, and a key if one is set.

    The API's keys of operators open it too. `scope["state"]` then has the key that was presented.

    Args:
        paths: for which it stands.
        page_key: finds the page key; an empty ring: none is needed.
        keys: of the API.
    """

    def __init__(self, app: ASGIApp, paths: tuple[str, ...], rates: Rates, page_key: KeyRing, keys: KeyRing) -> None:
        self._app = app
        self._paths = paths
        self._rates = rates
        self._page_key = page_key
        self._keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves a request."""
        if scope["type"] == "http" and scope["path"] in self._paths and scope["method"] != "OPTIONS":
            scope["route"] = _Named(scope["path"])
            if (wait := await self._rates.refused(_client(scope))) is not None:
                await _too_many(wait)(scope, receive, send)
                return
            key = self._find(_bearer(scope))
            if key is not None:
                scope.setdefault("state", {})["api_key"] = key
            elif len(self._page_key):
                await _unauthorized("this page needs a key", scope)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _find(self, secret: str) -> ApiKey | None:
        if not secret:
            return None
        page_key, key = self._page_key.find(secret), self._keys.find(secret)
        return page_key or (key if key is not None and key.role.includes(Role.OPERATOR) else None)


class Authentication:
    """Lets those in who present a key, before anything else of a request is read; `scope["state"]` then has it.

    Args:
        rates: of requests with a key, for each key.
        failures: of requests without one, for each client address.
        open_paths: that need no key.
    """

    def __init__(
        self, app: ASGIApp, keys: KeyRing, rates: Rates, failures: Rates, open_paths: tuple[str, ...] = ()
    ) -> None:
        self._app = app
        self._keys = keys
        self._rates = rates
        self._failures = failures
        self._open = open_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        secret = _bearer(scope)
        key = self._keys.find(secret) if secret else None
        answer: JSONResponse | None = None
        if key is not None:
            scope.setdefault("state", {})["api_key"] = key
            wait = await self._rates.refused(key.name)
        else:
            wait = await self._failures.refused(_client(scope))
            if scope["path"].removeprefix(scope.get("root_path", "")) not in self._open:
                answer = _unauthorized(self._why(secret), scope)
        if wait is not None:
            answer = _too_many(wait)
        await (answer or self._app)(scope, receive, send)

    def _why(self, secret: str) -> str:
        if not len(self._keys):
            return "the API is closed: no key is set up at this agent (--api-keys-file)"
        return "this key is not known" if secret else "give a key: Authorization: Bearer KEY"


class _Named:
    """A route for the log, of a request that may not reach its own."""

    def __init__(self, path: str) -> None:
        self.path = path


def key_of(state: Mapping[str, Any]) -> ApiKey:
    """The key that `Authentication` found."""
    key: ApiKey = state["api_key"]
    return key


def casts(state: Mapping[str, Any]) -> bool:
    """`PageGate` found a key: whoever has it may choose who answers."""
    return "api_key" in state


def _client(scope: Scope) -> str:
    client = scope.get("client")
    return address_group(client[0] if client else None)


def _bearer(scope: Scope) -> str:
    """The token of `Authorization: Bearer TOKEN` (RFC 6750); empty for none."""
    scheme, _, token = Headers(scope=scope).get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _unauthorized(why: str, scope: Scope) -> JSONResponse:
    given = "authorization" in Headers(scope=scope)
    challenge = f'{REALM}, error="invalid_token"' if given else REALM
    return JSONResponse({"detail": why}, status_code=401, headers={"WWW-Authenticate": challenge})


def _too_many(wait_s: int) -> JSONResponse:
    detail = f"too many requests; try again in {wait_s} s"
    return JSONResponse({"detail": detail}, status_code=429, headers={"Retry-After": str(wait_s)})
