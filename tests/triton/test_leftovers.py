"""Clients that leave at any moment leave nothing at Triton; one too many is told so."""

import asyncio
import random
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc
import pytest

from services.common.errors import UnavailableError
from services.common.triton import TritonModel
from tests.integration.stack import ROOT
from tests.triton.server import TritonServer
from tests.triton.talk import Talk
from tests.triton.test_decoder import codes, some_codes
from tests.triton.test_tokenizer import pcm_of, speech
from tests.triton.twins import TRITON_SESSIONS, Running, triton_decoder, triton_lm, triton_tokenizer
from trunkline.v1 import lm_pb2

STREAMS = 50


@pytest.fixture
async def tokenizer(triton: TritonServer) -> AsyncIterator[Running]:
    async with triton_tokenizer(triton.url) as running:
        yield running


@pytest.fixture
async def lm(triton: TritonServer) -> AsyncIterator[Running]:
    async with triton_lm(triton.url) as running:
        yield running


@pytest.fixture
async def decoder(triton: TritonServer) -> AsyncIterator[Running]:
    async with triton_decoder(triton.url) as running:
        yield running


async def test_fifty_streams_aborted_at_random_moments(
    triton: TritonServer, tokenizer: Running, lm: Running, decoder: Running
) -> None:
    chance = random.Random(7)
    audio = speech(pcm_of("book-pick-up"))

    async def listen(patience: float) -> None:
        call = tokenizer.stub.Tokenize()
        await _leaving(call, patience, [*audio, *audio])

    async def speak(patience: float) -> None:
        call = decoder.stub.Synthesize()
        await _leaving(call, patience, [codes(some_codes(1, at)) for at in range(200)])

    async def converse(patience: float) -> None:
        talk = Talk(lm)
        try:
            async with asyncio.timeout(patience):
                await talk.prompted()
                await talk.generate(say="this goes on and on " * 50, temperature=1.0)
        except TimeoutError:
            talk.call.cancel()

    kinds = [listen, speak, converse]
    aborted = 0
    while aborted < STREAMS:
        group = [kind(chance.random() * 0.6) for kind in kinds for _ in range(2)]
        await asyncio.gather(*group)
        aborted += len(group)
    await triton.until_idle()
    for service in (tokenizer, lm, decoder):
        await service.until_free()
        assert [task for task in asyncio.all_tasks() if task.get_name().startswith("triton-answer")] == []
    assert (await (await Talk(lm).prompted()).generate(max_new_tokens=20))[1].length
    assert [response async for response in decoder.stub.Synthesize(iter([codes(some_codes(12))]))]


async def _leaving(call: Any, patience: float, requests: Sequence[Any]) -> None:
    async def run() -> None:
        for request in requests:
            await call.write(request)
            await asyncio.sleep(0.01)
        while await call.read() is not grpc.aio.EOF:
            pass

    try:
        async with asyncio.timeout(patience):
            await run()
    except TimeoutError:
        call.cancel()


async def test_one_session_too_many_is_told_the_limit(triton: TritonServer, lm: Running) -> None:
    talks = [await Talk(lm).open() for _ in range(TRITON_SESSIONS)]
    refused = Talk(lm)
    await refused.send(open=lm_pb2.OpenSession())
    code, details = await refused.status()
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert details == f"all {TRITON_SESSIONS} sessions at Triton are taken; try again later"
    talks[0].call.cancel()
    await lm.until_free(TRITON_SESSIONS - 1)
    await Talk(lm).open()


ORPHAN = """
import asyncio, sys
from services.common.triton import TritonModel
async def main():
    model = TritonModel(sys.argv[1], "voice_lm")
    info = await model.info()
    for _ in range(3):
        await model.session().open({"revision": info["revision"]})
    print("open", flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""


async def test_a_killed_client_is_noticed_though_its_sessions_were_silent(triton: TritonServer) -> None:
    client = await asyncio.create_subprocess_exec(
        sys.executable, "-c", ORPHAN, triton.url, stdout=asyncio.subprocess.PIPE, cwd=ROOT
    )
    assert client.stdout is not None
    assert await client.stdout.readline() == b"open\n"
    assert (await triton.sessions())["voice_lm"] == 3
    client.send_signal(signal.SIGKILL)
    await client.wait()
    await triton.until_idle()


async def test_a_session_lives_by_its_lease(triton: TritonServer) -> None:
    failures: asyncio.Queue[Exception] = asyncio.Queue()
    model = TritonModel(triton.url, "voice_lm")
    session, silent = model.session(), model.session(failures.put_nowait)
    await session.open({})
    await silent.open({})
    assert silent._keeper is not None
    silent._keeper.cancel()  # as when the network is cut between the two, and nobody is told
    async with asyncio.timeout(60):
        assert isinstance(await failures.get(), UnavailableError)
    assert (await triton.sessions())["voice_lm"] == 1
    assert (await session.call("append"))["LENGTH"][0] == 0
    await model.close()
    await triton.until_idle()
