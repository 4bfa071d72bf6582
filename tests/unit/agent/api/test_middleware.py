"""The doors of the HTTP side over an application of three routes; requests go in as the server hands them over."""

import logging
from collections.abc import AsyncIterator

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from services.agent.api.keys import KeyRing, Role, new_key
from services.agent.api.middleware import AccessLog, Authentication, PageGate, SecurityHeaders, key_of
from services.agent.api.rates import Rates

SECRET, LINE = new_key("ann", Role.OPERATOR)
BEARER = {"Authorization": f"Bearer {SECRET}"}


async def who(request: Request) -> PlainTextResponse:
    return PlainTextResponse(key_of(request.scope["state"]).name)


async def ok(_: Request) -> PlainTextResponse:
    return PlainTextResponse("ok")


def client(
    keys: str = LINE, per_key: str = "", failures: str = "", page_rate: str = "", page_key: str = ""
) -> httpx.AsyncClient:
    api = Starlette(routes=[Route("/calls/{call_id}", who), Route("/openapi.json", ok)])
    api.add_middleware(
        Authentication,
        keys=KeyRing.parse(keys),
        rates=Rates(per_key),
        failures=Rates(failures),
        open_paths=("/openapi.json",),
    )
    app = Starlette(
        routes=[
            Mount("/api/v1", api),
            Route("/api/offer", ok, methods=["POST"]),
            Route("/healthz", ok),
        ]
    )
    app.add_middleware(
        PageGate,
        paths=("/api/offer",),
        rates=Rates(page_rate),
        page_key=KeyRing.of_page(page_key),
        keys=KeyRing.parse(keys),
    )
    transport = httpx.ASGITransport(AccessLog(SecurityHeaders(app, "/api/v1", tls=True)))
    return httpx.AsyncClient(transport=transport, base_url="http://agent")


async def test_a_key_lets_in() -> None:
    async with client() as agent:
        answer = await agent.get("/api/v1/calls/1", headers=BEARER)
        assert (answer.status_code, answer.text) == (200, "ann")
        assert (await agent.get("/api/v1/calls/1", headers={"Authorization": f"bearer {SECRET}"})).status_code == 200


@pytest.mark.parametrize(
    ("headers", "challenge"),
    [
        ({}, 'Bearer realm="trunkline"'),
        ({"Authorization": "Bearer wrong"}, 'Bearer realm="trunkline", error="invalid_token"'),
        ({"Authorization": f"Basic {SECRET}"}, 'Bearer realm="trunkline", error="invalid_token"'),
        ({"Authorization": "Bearer"}, 'Bearer realm="trunkline", error="invalid_token"'),
    ],
)
async def test_without_a_known_key_nobody_gets_in(headers: dict[str, str], challenge: str) -> None:
    async with client() as agent:
        for path in ("/api/v1/calls/1", "/api/v1/nothing", "/api/v1/calls/openapi.json", "/api/v1//openapi.json"):
            answer = await agent.get(path, headers=headers)
            assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, challenge)
        assert (await agent.get("/api/v1/openapi.json")).status_code == 200


async def test_an_api_without_keys_is_closed() -> None:
    async with client(keys="") as agent:
        answer = await agent.get("/api/v1/calls/1", headers=BEARER)
        assert answer.status_code == 401
        assert "no key is set up" in answer.json()["detail"]


async def test_too_many_requests_with_one_key() -> None:
    async with client(per_key="2/hour") as agent:
        statuses = [(await agent.get("/api/v1/calls/1", headers=BEARER)).status_code for _ in range(4)]
        assert statuses == [200, 200, 429, 429]
        answer = await agent.get("/api/v1/calls/1", headers=BEARER)
        assert 1 <= int(answer.headers["Retry-After"]) <= 3600
        assert (await agent.get("/api/v1/calls/1")).status_code == 401, "other clients are counted by themselves"


async def test_too_many_guesses_from_one_address() -> None:
    async with client(failures="2/hour") as agent:
        statuses = [(await agent.get("/api/v1/calls/1")).status_code for _ in range(3)]
        assert statuses == [401, 401, 429]
        assert (await agent.get("/api/v1/calls/1", headers=BEARER)).status_code == 200, "who has a key has a count"


async def test_pages_are_counted_and_may_need_a_key() -> None:
    viewer, line = new_key("bob", Role.VIEWER)
    async with client(keys=line, page_rate="3/hour", page_key="page-secret") as agent:
        assert (await agent.post("/api/offer")).status_code == 401
        theirs = {"Authorization": f"Bearer {viewer}"}
        assert (await agent.post("/api/offer", headers=theirs)).status_code == 401, "a viewer's key is none of pages"
        assert (await agent.post("/api/offer", headers={"Authorization": "Bearer page-secret"})).status_code == 200
        answer = await agent.post("/api/offer", headers={"Authorization": "Bearer page-secret"})
        assert answer.status_code == 429
        assert "Retry-After" in answer.headers
    async with client() as agent:
        assert (await agent.post("/api/offer")).status_code == 200, "without one set, none is needed"


async def test_who_may_place_calls_by_the_api_may_place_them_from_a_page() -> None:
    async with client(page_key="page-secret") as agent:
        assert (await agent.post("/api/offer", headers=BEARER)).status_code == 200
        assert (await agent.post("/api/offer", headers={"Authorization": "Bearer other"})).status_code == 401


async def test_security_headers() -> None:
    async with client() as agent:
        page, api = await agent.get("/healthz"), await agent.get("/api/v1/calls/1")
        console = await agent.get("/console/")
    for answer in (page, api, console):
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Strict-Transport-Security"].startswith("max-age=")
    assert api.headers["Cache-Control"] == "no-store"
    assert api.headers["X-Frame-Options"] == "DENY"
    assert "X-Frame-Options" not in page.headers
    assert console.headers["X-Frame-Options"] == "DENY"
    for answer in (page, console):
        policy = dict(part.strip().split(" ", 1) for part in answer.headers["Content-Security-Policy"].split(";"))
        assert (policy["default-src"], policy["script-src"], policy["connect-src"]) == ("'none'", "'self'", "'self'")
        assert "unsafe" not in str(policy)
        assert answer.headers["Cache-Control"] == "no-cache", "no page mixes modules of two releases"
        assert policy.get("frame-ancestors") == ("'none'" if answer is console else None)


async def test_the_access_log_has_templates_and_names_only(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "services.agent.access")
    async with client(page_rate="1/hour") as agent:
        await agent.get("/api/v1/calls/4930123456?to=4930123456", headers=BEARER)
        await agent.get("/api/v1/calls/4930123456")
        await agent.get("/api/v1/4930123456", headers=BEARER)
        await agent.post("/api/offer")
        await agent.post("/api/offer")
        await agent.get("/healthz")
        await agent.get("/4930123456")
    told = [(record.levelname, {name: record.__dict__.get(name) for name in FIELDS}) for record in caplog.records]
    assert told == [
        ("INFO", {"method": "GET", "route": "/api/v1/calls/{call_id}", "status": 200, "key": "ann"}),
        ("INFO", {"method": "GET", "route": "/api/v1/-", "status": 401, "key": None}),
        ("INFO", {"method": "GET", "route": "/api/v1/-", "status": 404, "key": "ann"}),
        ("INFO", {"method": "POST", "route": "/api/offer", "status": 200, "key": None}),
        ("INFO", {"method": "POST", "route": "/api/offer", "status": 429, "key": None}),
        ("DEBUG", {"method": "GET", "route": "/healthz", "status": 200, "key": None}),
    ]
    assert "4930123456" not in caplog.text


FIELDS = ("method", "route", "status", "key")


async def test_a_request_that_breaks_is_logged_too(caplog: pytest.LogCaptureFixture) -> None:
    async def breaks(_: Request) -> AsyncIterator[bytes]:
        raise RuntimeError

    caplog.set_level(logging.INFO, "services.agent.access")
    app = Starlette(routes=[Route("/api/offer", breaks)])
    transport = httpx.ASGITransport(AccessLog(app), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://agent") as agent:
        assert (await agent.get("/api/offer")).status_code == 500
    assert [record.__dict__["status"] for record in caplog.records] == [500]
