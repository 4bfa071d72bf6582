"""What carriers' webhooks and websockets are refused, how, and that nothing is left or told of it."""

import asyncio
import contextlib
import json
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
import pytest
import websockets

from tests.integration.carrier_caller import (
    ENVIRONMENT,
    NUMBERS,
    PUBLIC_URL,
    TOKENS,
    calling,
    form,
    media_url,
    opening,
    ring,
    signed,
    webhook,
)
from tests.integration.personas import short_persona
from tests.integration.stack import Agent, Stack, free_again
from trunkline.v1 import calls_pb2, calls_pb2_grpc

CARRIERS = ("twilio", "telnyx", "plivo")


@pytest.fixture(scope="module")
def agent(tiny_stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    personas = short_persona(tmp_path_factory.mktemp("personas"))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        with tiny_stack.agent(2, personas, False, "--public-url", PUBLIC_URL) as running:
            yield running
    log = running.process.log.read_text()
    assert "ERROR" not in log, log
    assert not [secret for secret in (*TOKENS.values(), *NUMBERS, "7654321") if secret.strip("+") in log], log


@contextlib.asynccontextmanager
async def connected(agent: Agent, carrier: str = "twilio") -> AsyncIterator[tuple[websockets.ClientConnection, str]]:
    """A call's websocket on which nothing was said yet, and its URL."""
    url = media_url(agent, await ring(agent, carrier, uuid.uuid4().hex))
    async with websockets.connect(url, compression=None) as socket:
        yield socket, url


async def closed(socket: websockets.ClientConnection) -> tuple[int, str]:
    """Code and reason that the agent closes with; what it sends before is passed over."""
    with contextlib.suppress(websockets.ConnectionClosedError):
        async with asyncio.timeout(60):
            async for _ in socket:
                pass
    assert socket.close_code is not None
    return socket.close_code, socket.close_reason or ""


async def refused(url: str) -> int:
    """The status of a handshake that is refused."""
    with pytest.raises(websockets.InvalidStatus) as refusal:
        async with websockets.connect(url):
            pass
    return refusal.value.response.status_code


@pytest.mark.parametrize("carrier", CARRIERS)
async def test_webhooks_without_the_carriers_signature(agent: Agent, carrier: str) -> None:
    fields, path = form(carrier, "c1"), f"/carriers/{carrier}/voice"
    assert (await webhook(agent, carrier, fields, {})).status_code == 401
    others = signed(carrier, path, form(carrier, "c2"))
    forged = await webhook(agent, carrier, fields, others)
    assert forged.status_code == 403
    assert "does not match" in forged.json()["detail"]
    elsewhere = signed(carrier, path + "s", fields)
    if carrier != "telnyx":  # whose signature does not know the URL
        assert (await webhook(agent, carrier, fields, elsewhere)).status_code == 403
    else:
        old = signed(carrier, path, fields, now=time.time() - 400)
        assert (await webhook(agent, carrier, fields, old)).status_code == 403
    nameless = {name: value for name, value in fields.items() if name != "To"}
    incomplete = await webhook(agent, carrier, nameless, signed(carrier, path, nameless))
    assert (incomplete.status_code, incomplete.json()["detail"]) == (400, "the form has no To")


async def test_other_webhooks(agent: Agent) -> None:
    assert (await webhook(agent, "vonage", form("twilio", "c1"), {})).status_code == 404
    assert (await webhook(agent, "twilio", {"CallSid": "1" * 70_000}, {})).status_code == 413
    assert await refused(f"ws{agent.page[4:]}/carriers/twilio/media/guessed") == 403
    assert await refused(f"ws{agent.page[4:]}/carriers/vonage/media/guessed") == 403


async def test_a_webhooks_secret_works_once_and_for_its_carrier(agent: Agent) -> None:
    call_id = uuid.uuid4().hex
    answer = await ring(agent, "twilio", call_id)
    again = await ring(agent, "twilio", call_id)
    assert again.text == answer.text, "a carrier that lost the answer may ask again"
    url = media_url(agent, answer)
    assert await refused(url.replace("twilio", "plivo")) == 403
    async with websockets.connect(url, compression=None) as socket:
        assert await refused(url) == 403
        assert (await ring(agent, "twilio", call_id)).status_code == 409
        for message in opening("twilio", call_id, "s1"):
            await socket.send(json.dumps(message))
        await socket.recv()
    await free_again(agent)
    assert await refused(url) == 403
    assert (await ring(agent, "twilio", call_id)).status_code == 409, "a replayed webhook"


@pytest.mark.parametrize(
    ("carrier", "first", "why"),
    [
        ("twilio", "{", "not JSON"),
        ("twilio", "[" * 30_000, "not JSON"),
        ("twilio", "[]", "not a JSON object"),
        ("twilio", b"{}", "binary"),
        ("twilio", '{"event": "media"}', "begin with"),
        ("telnyx", '{"event": "start", "start": 1}', "without start.media_format.encoding"),
        ("plivo", '{"event": "connected"}', "begin with start"),
        ("plivo", json.dumps(opening("plivo", "another", "s1")[0]), "another call"),
    ],
)
async def test_a_stream_that_does_not_begin_as_it_should(
    agent: Agent, carrier: str, first: str | bytes, why: str
) -> None:
    async with connected(agent, carrier) as (socket, _):
        await socket.send(first)
        code, reason = await closed(socket)
    assert code == 1008
    assert why in reason
    await free_again(agent)


@pytest.mark.parametrize(
    ("message", "code", "why"),
    [
        ("7654321 {", 1007, "not JSON"),
        (b"7654321", 1007, "binary"),
        ('{"event": "media", "media": "7654321"}', 1007, "without media.payload"),
        ('{"event": "media", "media": {"payload": "7654321!"}}', 1007, "not base64"),
        (
            json.dumps({"event": "media", "media": {"payload": "A" * 12_000}}),
            1007,
            "too long",
        ),
        ('{"event": "dtmf", "dtmf": {"digit": 7654321}}', 1007, "without dtmf.digit"),
        (json.dumps({"event": "media", "media": {"payload": "A" * 40_000}}), 1009, ""),
    ],
)
async def test_a_stream_that_breaks_in_mid_call(agent: Agent, message: str | bytes, code: int, why: str) -> None:
    call_id = uuid.uuid4().hex
    url = media_url(agent, await ring(agent, "twilio", call_id))
    async with websockets.connect(url, compression=None) as socket:
        for start in opening("twilio", call_id, "s1"):
            await socket.send(json.dumps(start))
        await socket.recv()  # the greeting
        await socket.send(message)
        got, reason = await closed(socket)
    assert got == code
    assert why in reason
    await free_again(agent)


async def test_a_full_agent_has_the_carrier_say_busy_and_forgets_calls_that_never_connect(agent: Agent) -> None:
    waiting = [await ring(agent, carrier, uuid.uuid4().hex) for carrier in ("twilio", "telnyx")]
    urls = [media_url(agent, answer) for answer in waiting]
    for carrier in CARRIERS:
        busy = await ring(agent, carrier, uuid.uuid4().hex)
        assert busy.status_code == 200
        assert "busy" in busy.text
        assert "Stream" not in busy.text
        assert int(busy.headers["Retry-After"]) > 0
    await free_again(agent)
    for url in urls:
        assert await refused(url) == 403


async def test_keys_hang_up_and_what_a_stream_cannot_do(agent: Agent) -> None:
    async with calling(agent, "plivo") as line, grpc.aio.insecure_channel(agent.calls) as channel:
        stub = calls_pb2_grpc.CallsStub(channel)
        (call,) = (await stub.ListCalls(calls_pb2.ListCallsRequest())).calls
        watch: Any = stub.WatchCalls(calls_pb2.WatchCallsRequest(call_id=call.call_id))
        await watch.read()  # it is subscribed
        for key in "4*#":
            await line.press(key)
        await line.press("D")  # on no keypad: no harm
        pressed = ""
        async with asyncio.timeout(60):
            while len(pressed) < 3:
                pressed += (await watch.read()).dtmf.digit
        assert pressed == "4*#"
        for attempt in (
            stub.Transfer(calls_pb2.TransferRequest(call_id=call.call_id, target="+15550100777")),
            stub.SendDtmf(calls_pb2.SendDtmfRequest(call_id=call.call_id, digits="1")),
            stub.PauseRecording(calls_pb2.PauseRecordingRequest(call_id=call.call_id)),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as refusal:
                await attempt
            assert refusal.value.code() is grpc.StatusCode.FAILED_PRECONDITION
            assert refusal.value.details()
        await stub.HangUp(calls_pb2.HangUpRequest(call_id=call.call_id))
        await asyncio.wait_for(line.socket.wait_closed(), 60)
        assert line.socket.close_code == 1000
    await free_again(agent)
