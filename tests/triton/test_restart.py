"""Triton dies in the middle of everything and comes back: UNAVAILABLE in between, and nothing left over."""

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.integration.stack import HOST, Process
from tests.triton.server import TritonServer
from tests.triton.talk import Talk
from tests.triton.test_decoder import codes, some_codes
from tests.triton.test_tokenizer import pcm_of, speech, tokenize
from tests.triton.twins import Running, triton_decoder, triton_lm, triton_tokenizer
from trunkline.v1 import decoder_pb2, lm_pb2, tokenizer_pb2

GONE = grpc.StatusCode.UNAVAILABLE


@pytest.fixture
def brought_back(triton: TritonServer) -> Iterator[None]:
    """For the tests that follow, however this one ends."""
    yield
    if not triton.running:
        triton.start()
        triton.wait_serving()


@pytest.fixture
async def services(triton: TritonServer) -> AsyncIterator[tuple[Running, Running, Running]]:
    async with (
        triton_tokenizer(triton.url) as tokenizer,
        triton_lm(triton.url) as lm,
        triton_decoder(triton.url) as decoder,
    ):
        yield tokenizer, lm, decoder


@pytest.fixture
async def health(triton: TritonServer, tmp_path: Path) -> AsyncIterator[Any]:
    """Asks a service's process whether it serves."""
    command = [sys.executable, "-m", "services.tokenizer", "--backend", "triton", "--triton-url", triton.url]
    process = Process("tokenizer", [*command, "--listen", f"{HOST}:0"], tmp_path / "tokenizer.log")
    await asyncio.to_thread(process.wait_serving)
    async with grpc.aio.insecure_channel(f"{HOST}:{process.port}") as channel:
        stub = health_pb2_grpc.HealthStub(channel)

        async def until(status: Any) -> None:
            async with asyncio.timeout(60):
                while (await stub.Check(health_pb2.HealthCheckRequest())).status != status:
                    await asyncio.sleep(0.05)

        yield until
    assert await asyncio.to_thread(process.stop) == 0, process.tail()


async def infos(services: tuple[Running, Running, Running]) -> list[Any]:
    tokenizer, lm, decoder = services
    found = await asyncio.gather(
        tokenizer.stub.Info(tokenizer_pb2.SpeechTokenizerInfoRequest()),
        lm.stub.Info(lm_pb2.VoiceLMInfoRequest()),
        decoder.stub.Info(decoder_pb2.SpeechDecoderInfoRequest()),
        return_exceptions=True,
    )
    return list(found)


async def until_all_answer(services: tuple[Running, Running, Running]) -> list[Any]:
    """Each service has a connection of its own to Triton, and finds it again when its own back-off says so."""
    async with asyncio.timeout(60):
        while True:
            found = await infos(services)
            if not any(isinstance(info, Exception) for info in found):
                return found
            await asyncio.sleep(0.05)


@pytest.mark.usefixtures("brought_back")
async def test_killed_and_started_again(
    triton: TritonServer, services: tuple[Running, Running, Running], health: Any
) -> None:
    tokenizer, lm, decoder = services
    serving = health_pb2.HealthCheckResponse.SERVING
    await health(serving)
    idle, busy = await Talk(lm).prompted(), await Talk(lm).prompted()
    await busy.send(generate=lm_pb2.Generate(say="this takes its time " * 50))
    await busy.receive()
    listening = tokenizer.stub.Tokenize()
    audio = speech(pcm_of("book-pick-up"))
    for request in audio[:20]:
        await listening.write(request)
    await listening.read()
    speaking = decoder.stub.Synthesize()
    await speaking.write(codes(some_codes(12)))
    await speaking.read()

    triton.kill()

    assert (await idle.status())[0] is GONE
    assert (await busy.status())[0] is GONE
    with contextlib.suppress(asyncio.InvalidStateError):  # over already, if it waited for an answer
        await listening.write(audio[20])
    with contextlib.suppress(asyncio.InvalidStateError):
        await speaking.write(codes(some_codes(12)))
    assert await listening.code() is GONE
    assert await speaking.code() is GONE
    for service in services:
        await service.until_free()
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("triton-")]
    code, details = await lm.refusal(lm.stub.Converse, [lm_pb2.ConverseRequest(open=lm_pb2.OpenSession())])
    assert code is GONE
    assert "Triton does not answer" in details
    for error in await infos(services):
        assert isinstance(error, grpc.aio.AioRpcError)
        assert error.code() is GONE
    await health(health_pb2.HealthCheckResponse.NOT_SERVING)
    until = time.monotonic() + 60
    while triton.processes():
        assert time.monotonic() < until, "the models' processes outlive the server"
        await asyncio.sleep(0.05)

    triton.start()
    await asyncio.to_thread(triton.wait_serving)

    await health(serving)
    for info in await until_all_answer(services):
        assert info.active == 0
    assert set((await triton.sessions()).values()) == {0}
    again = await Talk(lm).open(idle.tokens)
    assert (await again.generate(max_new_tokens=20))[1].length > len(idle.tokens)
    assert await tokenize(tokenizer, audio)
    assert [block async for block in decoder.stub.Synthesize(iter([codes(some_codes(12))]))]
