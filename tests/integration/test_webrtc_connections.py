"""How a page's connection comes, goes and comes back: trickle ICE, resumption, renegotiation, HTTPS, other origins."""

import asyncio
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis.asyncio as redis
from aiortc import RTCPeerConnection, RTCSessionDescription

from tests.integration.personas import short_persona
from tests.integration.stack import KEYS, Agent, Stack, free_again
from tests.integration.webrtc_caller import WAIT_S, Caller, Waveform, calling, sample

ORIGIN = "https://shop.example.org"
RESUME_S = 2


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    directory = tmp_path_factory.mktemp("tls")
    chain, key = directory / "chain.pem", directory / "key.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "2",
    ]
    command += ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key)]
    subprocess.run([*command, "-out", str(chain)], check=True, capture_output=True)
    return chain, key


@pytest.fixture(scope="module")
def agent(
    tiny_stack: Stack, tmp_path_factory: pytest.TempPathFactory, certificate: tuple[Path, Path]
) -> Iterator[Agent]:
    personas = short_persona(tmp_path_factory.mktemp("personas"))
    more = ["--resume-seconds", str(RESUME_S), "--web-origins", ORIGIN]
    more += ["--http-certificate", str(certificate[0]), "--http-key", str(certificate[1])]
    with tiny_stack.agent(2, personas, False, *more) as agent:
        yield agent


@pytest.fixture(scope="module")
def page(agent: Agent) -> str:
    return agent.page.replace("http:", "https:")


@pytest.fixture(scope="module")
def tls(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(certificate[0]))


@pytest.fixture(scope="module")
def question() -> Waveform:
    return sample("address")


async def test_candidates_may_follow_the_offer(page: str, tls: ssl.SSLContext) -> None:
    async with calling(page, tls=tls, trickle=True) as caller:
        await caller.bot_is_quiet()


async def test_a_call_is_taken_up_again_where_it_was(
    agent: Agent, page: str, tls: ssl.SSLContext, question: Waveform, tiny_stack: Stack
) -> None:
    client = redis.Redis.from_url(tiny_stack.redis_url, decode_responses=True)
    async with calling(page, tls=tls) as caller:
        await caller.bot_is_quiet()
        call_id, secret = caller.call_id, caller.secret
        await caller.vanish()
        caller.messages.clear()
        heard = caller.heard_samples
        await caller.come_back()
        assert (caller.call_id, caller.secret) == (call_id, secret)
        await caller.until(lambda: bool(caller.of_type("server-message")), "what was said before")
        [resumed] = caller.of_type("server-message")
        assert resumed["data"]["type"] == "resumed"
        assert [line["text"] for line in resumed["data"]["captions"]] == ["Hello."]
        caller.microphone.say(question)
        await caller.until(lambda: len(caller.latencies()) == 1, "an answer on the new connection")
        await caller.until(lambda: caller.heard_samples > heard + 16_000, "its sound")
        entries: Any = await client.xrange(KEYS.conversation(call_id))
        assert [fields["role"] for _, fields in entries][:3] == ["system", "assistant", "user"], "one conversation"
        assert (await client.hgetall(KEYS.call(call_id)))["state"] == "live"
    await free_again(agent)
    await client.aclose()


async def test_a_page_that_comes_back_before_it_is_missed_is_taken_over(page: str, tls: ssl.SSLContext) -> None:
    """A reload is quicker than anyone notices; and two pages with one secret share one call, the newer one has it."""
    async with calling(page, tls=tls) as caller:
        await caller.bot_is_quiet()
        again = Caller(page, tls=tls)
        again.secret = caller.secret
        await again.come_back()
        assert again.call_id == caller.call_id
        await again.until(lambda: bool(again.of_type("server-message")), "what was said before")
        await asyncio.wait_for(caller.closed.wait(), WAIT_S)
        await again.vanish()


async def test_who_does_not_come_back_has_hung_up(
    agent: Agent, page: str, tls: ssl.SSLContext, tiny_stack: Stack
) -> None:
    client = redis.Redis.from_url(tiny_stack.redis_url, decode_responses=True)
    caller = Caller(page, tls=tls)
    await caller.call()
    await caller.bot_is_quiet()
    began = time.monotonic()
    await caller.vanish()
    await free_again(agent)
    assert time.monotonic() - began >= RESUME_S
    call = await client.hgetall(KEYS.call(caller.call_id))
    assert (call["state"], call["reason"]) == ("ended", "the connection to the page was lost")
    with pytest.raises(httpx.HTTPStatusError) as refusal:
        await caller.come_back()
    assert refusal.value.response.status_code == 404
    await caller.vanish()
    await client.aclose()


async def test_a_page_that_sends_nothing_any_more_is_missed(agent: Agent, page: str, tls: ssl.SSLContext) -> None:
    """Its connection stands, as far as ICE can tell."""
    async with calling(page, tls=tls) as caller:
        await caller.bot_is_quiet()
        caller.microphone.fall_silent()
        await asyncio.wait_for(caller.closed.wait(), WAIT_S)
    await free_again(agent)


async def test_an_offer_on_the_same_connection_is_answered(page: str, tls: ssl.SSLContext) -> None:
    async with calling(page, tls=tls) as caller:
        await caller.bot_is_quiet()
        peer: RTCPeerConnection = caller._peer
        await peer.setLocalDescription(await peer.createOffer())
        offer = {"sdp": peer.localDescription.sdp, "type": "offer", "pc_id": caller.secret}
        async with httpx.AsyncClient(timeout=WAIT_S, verify=tls) as client:
            response = await client.post(f"{page}/api/offer", json=offer)
        assert response.status_code == 200
        await peer.setRemoteDescription(RTCSessionDescription(response.json()["sdp"], "answer"))
        heard = caller.heard_samples
        await caller.until(lambda: caller.heard_samples > heard + 16_000, "sound on the connection there was")
        assert not caller.closed.is_set()


async def test_a_goodbye_ends_the_call_at_once(agent: Agent, page: str, tls: ssl.SSLContext) -> None:
    async with calling(page, tls=tls) as caller:
        await caller.bot_is_quiet()
        async with httpx.AsyncClient(timeout=WAIT_S, verify=tls) as client:
            for status in (204, 404):
                response = await client.request("DELETE", f"{page}/api/offer", json={"pc_id": caller.secret})
                assert response.status_code == status
        await asyncio.wait_for(caller.closed.wait(), WAIT_S)


async def test_answers_ask_for_error_correction_and_offer_audio_alone(page: str, tls: ssl.SSLContext) -> None:
    async with calling(page, tls=tls) as caller:
        answer = caller._peer.remoteDescription.sdp
    assert "useinbandfec=1" in answer
    assert [line.split()[1:] for line in answer.splitlines() if line.startswith("a=rtpmap")] == [["opus/48000/2"]]


@pytest.mark.parametrize(
    ("method", "body", "status", "detail"),
    [
        ("POST", {"sdp": "v=0\r\n", "type": "offer", "pc_id": "guess"}, 404, "no such call"),
        ("PATCH", {"pc_id": "guess", "candidates": []}, 404, "no such call"),
        ("PATCH", {"pc_id": "guess", "candidates": [{"candidate": "x", "sdp_mid": "0"}]}, 400, "cannot be read"),
        ("PATCH", {"pc_id": "guess", "candidates": [{"candidate": "x"}]}, 400, "neither sdp_mid"),
        ("PATCH", {"pc_id": "guess"}, 422, "candidates"),
        ("PATCH", {"pc_id": "g" * 201, "candidates": []}, 422, "at most 200"),
        ("DELETE", {"pc_id": "guess"}, 404, "no such call"),
        ("DELETE", {}, 422, "pc_id"),
    ],
)
async def test_what_cannot_be_is_refused(
    page: str, tls: ssl.SSLContext, method: str, body: dict[str, Any], status: int, detail: str
) -> None:
    async with httpx.AsyncClient(timeout=WAIT_S, verify=tls) as client:
        response = await client.request(method, f"{page}/api/offer", json=body)
    assert response.status_code == status
    assert detail in response.text


async def test_other_origins_are_let_in_by_name(page: str, tls: ssl.SSLContext) -> None:
    async with httpx.AsyncClient(timeout=WAIT_S, verify=tls) as client:
        for origin, allowed in ((ORIGIN, ORIGIN), ("https://elsewhere.example.org", None)):
            asked = {"Origin": origin, "Access-Control-Request-Method": "PATCH"}
            preflight = await client.options(f"{page}/api/offer", headers=asked)
            assert preflight.headers.get("Access-Control-Allow-Origin") == allowed


async def test_without_servers_a_page_gets_none(page: str, tls: ssl.SSLContext) -> None:
    async with httpx.AsyncClient(timeout=WAIT_S, verify=tls) as client:
        response = await client.get(f"{page}/api/ice-servers")
    assert response.json()["iceServers"] == []
    assert response.headers["Cache-Control"] == "no-store"
