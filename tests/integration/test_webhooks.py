"""Webhooks against a real HTTP server: what they send, and what they make of every kind of answer."""

import gzip
import logging
import socket
from collections.abc import AsyncIterator

import pytest

from services.agent.actions.config import Webhook
from services.agent.actions.webhook import MAX_REPLY_BYTES, Notice, WebhookError, Webhooks, WebhookTimeoutError
from tests.integration.http_server import Answer, dripping, flooding, hanging_up, http_server, silent, status

NOTICE = Notice("call-1", "default", "crm", 3, "Your parcel 4719 is on its way.", "")


@pytest.fixture
async def webhooks() -> AsyncIterator[Webhooks]:
    async def at_once(_: float) -> None:
        """Retries need no real pauses here."""

    running = Webhooks(sleep=at_once)
    yield running
    await running.close()


def hook(url: str, **settings: object) -> Webhook:
    return Webhook.model_validate({"name": "crm", "kind": "webhook", "keys": "1", "url": url, **settings})


async def test_a_notice_is_sent_as_json_and_a_text_comes_back(
    webhooks: Webhooks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN_OF_TEST", "s3cret")
    async with http_server(status(200, {"say": " It is\nnoted. ", "ticket": 7})) as server:
        settings = hook(server.url + "/notes?v=1", headers={"Authorization": "Bearer ${TOKEN_OF_TEST}"})
        assert await webhooks.send(settings, NOTICE, "call-1-1") == "It is noted."
    (request,) = server.requests
    assert (request.method, request.path) == ("POST", "/notes?v=1")
    assert request.json == {
        "call_id": "call-1",
        "persona": "default",
        "action": "crm",
        "turn": 3,
        "text": "Your parcel 4719 is on its way.",
        "keys": "",
    }
    assert request.headers["content-type"] == "application/json"
    assert request.headers["authorization"] == "Bearer s3cret"
    assert request.headers["idempotency-key"] == "call-1-1"


async def test_get_has_the_notice_in_its_query(webhooks: Webhooks) -> None:
    async with http_server(status(204)) as server:
        assert await webhooks.send(hook(server.url + "/x", method="GET"), NOTICE, "k") == ""
    (request,) = server.requests
    assert (request.method, request.body) == ("GET", b"")
    assert (request.query["text"], request.query["turn"]) == (NOTICE.text, "3")


@pytest.mark.parametrize(
    ("content", "kind"),
    [(None, "application/json"), (b"thanks", "text/plain"), ({}, "application/json"), ([1], "application/json")],
)
async def test_an_answer_without_a_text_is_fine(webhooks: Webhooks, content: object, kind: str) -> None:
    async with http_server(status(201, content, kind)) as server:
        assert await webhooks.send(hook(server.url), NOTICE, "k") == ""


@pytest.mark.parametrize(
    ("content", "headers"),
    [
        (b"{", {}),
        (b"\xff\xfe", {}),
        (b"[" * 50_000, {}),
        ({"say": 5}, {}),
        ({"say": "x" * 501}, {}),
        (gzip.compress(b'{"say": "hi"}'), {"Content_Encoding": "gzip"}),
    ],
)
async def test_an_answer_that_cannot_be_used_is_a_failure_and_not_repeated(
    webhooks: Webhooks, content: object, headers: dict[str, str]
) -> None:
    async with http_server(status(200, content, **headers)) as server:
        with pytest.raises(WebhookError, match="a JSON reply that is not like"):
            await webhooks.send(hook(server.url, retries=2), NOTICE, "k")
    assert len(server.requests) == 1


@pytest.mark.parametrize("code", [301, 307, 400, 401, 404])
async def test_other_statuses_fail_at_once_and_no_redirect_is_followed(webhooks: Webhooks, code: int) -> None:
    async with http_server(status(200)) as elsewhere, http_server(status(code, Location=elsewhere.url)) as server:
        with pytest.raises(WebhookError, match=f"HTTP {code}"):
            await webhooks.send(hook(server.url, retries=2), NOTICE, "k")
    assert len(server.requests) == 1
    assert not elsewhere.requests


@pytest.mark.parametrize("first", [status(500), status(503), status(429), hanging_up])
async def test_a_passing_failure_is_tried_again_with_the_same_key(webhooks: Webhooks, first: Answer) -> None:
    async with http_server(first, status(200, {"say": "There."})) as server:
        assert await webhooks.send(hook(server.url, retries=1), NOTICE, "k-9") == "There."
    assert [request.headers["idempotency-key"] for request in server.requests] == ["k-9", "k-9"]


async def test_tries_are_counted(webhooks: Webhooks) -> None:
    async with http_server(status(500)) as server:
        with pytest.raises(WebhookError, match="HTTP 500"):
            await webhooks.send(hook(server.url, retries=2), NOTICE, "k")
    assert len(server.requests) == 3


@pytest.mark.parametrize("answer", [silent, dripping])
async def test_time_is_up_however_the_server_wastes_it(webhooks: Webhooks, answer: Answer) -> None:
    async with http_server(answer) as server:
        with pytest.raises(WebhookTimeoutError, match=r"within 0\.3 s"):
            await webhooks.send(hook(server.url, timeout_s=0.3, retries=1), NOTICE, "k")
        assert len(server.requests) == 2


async def test_a_reply_without_an_end_is_cut_off(webhooks: Webhooks) -> None:
    async with http_server(flooding) as server:
        with pytest.raises(WebhookError, match=str(MAX_REPLY_BYTES)):
            await webhooks.send(hook(server.url, timeout_s=30, retries=2), NOTICE, "k")
    assert len(server.requests) == 1


async def test_nobody_at_the_url(webhooks: Webhooks) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, and nobody listens
        with pytest.raises(WebhookError, match="ConnectError"):
            await webhooks.send(hook(f"http://127.0.0.1:{taken.getsockname()[1]}"), NOTICE, "k")


async def test_surroundings_cannot_send_it_elsewhere(webhooks: Webhooks, monkeypatch: pytest.MonkeyPatch) -> None:
    async with http_server(status(200)) as elsewhere, http_server(status(200)) as server:
        for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, elsewhere.url)
        own = Webhooks()
        await own.send(hook(server.url), NOTICE, "k")
        await own.close()
    assert (len(server.requests), len(elsewhere.requests)) == (1, 0)


async def test_nothing_that_is_sent_stands_in_the_log(webhooks: Webhooks, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with http_server(status(200)) as server:
        await webhooks.send(hook(server.url, method="GET"), NOTICE, "k")
    assert "parcel" not in caplog.text
