"""The bot's voice as a real phone hears it over G.711: told to be synthetic first, and found by its watermark."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
import yaml

from services.agent.watermark.code import Code
from services.agent.watermark.detect import WINDOW_S, Finding, detect
from tests.integration.patience import judged, until_right
from tests.integration.phone import RATE, Pcm, Phone, phone
from tests.integration.stack import HOST, Agent, Stack, free_again
from tests.integration.test_webrtc import in_order
from trunkline.v1 import calls_pb2, calls_pb2_grpc

DISCLOSURE = "We are closed on Sunday."  # what the small model says clearly, and would not say by itself
WORDS = "We are open Monday to Friday from nine to six, Saturday from ten to two, closed on Sunday."
PERSONAS: dict[str, dict[str, object]] = {
    "default": {"disclosure": {"text": DISCLOSURE, "barge_in": False}, "greeting": "How can I help you?"},
    "plain": {"greeting": "Hello.", "watermark": False, "numbers": ["plain"]},
}
KEY = "an operator's secret"
LONG_S = 90.0


@pytest.fixture(scope="module")
def agent(
    stack: Stack, tmp_path_factory: pytest.TempPathFactory, require_debian: Callable[..., None]
) -> Iterator[Agent]:
    require_debian("baresip")
    directory = tmp_path_factory.mktemp("personas")
    for name, settings in PERSONAS.items():
        persona = {"name": name, "prompt": "You are Mira at Harbour Parcel.", "temperature": 0, **settings}
        (directory / f"{name}.yaml").write_text(yaml.safe_dump(persona))
    key = directory / "key"
    key.write_text(KEY)
    with stack.agent(2, directory, True, "--watermark-key-file", str(key)) as running:
        yield running


@contextlib.asynccontextmanager
async def told_to_say(agent: Agent, handset: Phone, uri: str) -> AsyncIterator[Callable[[], None]]:
    """In a call in which the bot says `WORDS` after what it says by itself, and again when asked to."""
    async with grpc.aio.insecure_channel(agent.calls) as channel:
        stub = calls_pb2_grpc.CallsStub(channel)
        await handset.call(uri)
        (call,) = (await stub.ListCalls(calls_pb2.ListCallsRequest())).calls
        asking: set[asyncio.Task[None]] = set()

        async def say() -> None:
            await stub.Say(calls_pb2.SayRequest(call_id=call.call_id, text=WORDS))

        def again() -> None:
            task = asyncio.create_task(say())
            asking.add(task)

        again()
        try:
            yield again
        finally:
            await asyncio.gather(*asking)
            await stub.HangUp(calls_pb2.HangUpRequest(call_id=call.call_id))


async def found(handset: Phone, again: Callable[[], None], key: bytes) -> Finding:
    """The mark in what the phone hears; the bot talks on until there are five seconds in one piece: where a busy
    machine tears its words there are not."""
    code = Code.of(key)
    words = 1
    async with asyncio.timeout(LONG_S):
        while True:
            heard = handset.heard()
            if len(heard) >= (WINDOW_S + 1) * RATE:
                finding = await asyncio.to_thread(detect, heard / 32768, RATE, code)
                if finding.found:
                    return finding
            if len(heard) > words * 8 * RATE:
                words += 1
                again()
            await asyncio.sleep(0.5)


def loud_s(pcm: Pcm) -> float:
    return float(np.count_nonzero(np.abs(pcm.astype(int)) > 300) / RATE)


async def test_the_voice_that_a_phone_hears_is_found_by_the_operators_key_and_by_no_other(
    agent: Agent, tmp_path: Path
) -> None:
    async with phone(tmp_path) as handset, told_to_say(agent, handset, agent.sip_uri) as again:
        finding = await found(handset, again, KEY.encode())
        heard = handset.heard()
    assert finding.p_value <= 1e-6
    assert not detect(heard / 32768, RATE, Code.of()).found, "it is of the operator's key alone"


async def test_a_phone_hears_the_disclosure_before_the_greeting(agent: Agent, tmp_path: Path) -> None:
    calls = itertools.count()

    async def call() -> str:
        async with phone(tmp_path / str(next(calls))) as handset:
            await handset.call(agent.sip_uri)
            heard = await handset.listen(pause_s=2.5)
            await handset.hang_up()
        await free_again(agent)
        return await judged((heard / 32768).astype(np.float32), RATE)

    await until_right(call, lambda text: in_order(text, "closed sunday help"))


async def test_a_persona_without_the_mark_is_not_taken_for_one_with_it(agent: Agent, tmp_path: Path) -> None:
    uri = f"sip:plain@{HOST}:{agent.sip_port}"
    async with phone(tmp_path) as handset, told_to_say(agent, handset, uri):
        async with asyncio.timeout(LONG_S):
            while len(heard := handset.heard()) < 2 * WINDOW_S * RATE or loud_s(heard) < WINDOW_S / 4:
                await asyncio.sleep(0.2)
    assert not detect(heard / 32768, RATE, Code.of(KEY.encode())).found
