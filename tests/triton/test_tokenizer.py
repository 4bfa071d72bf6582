"""The tokenizer over Triton says what the engine in the service's own process says."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import soundfile

from tests.integration.stack import ROOT
from tests.triton.server import TritonServer
from tests.triton.twins import Running, both, local_tokenizer, triton_tokenizer
from trunkline.v1 import tokenizer_pb2 as pb


@pytest.fixture
async def service(triton: TritonServer) -> AsyncIterator[Running]:
    async with triton_tokenizer(triton.url) as running:
        yield running


@pytest.fixture
async def twins(service: Running) -> AsyncIterator[list[Running]]:
    async with local_tokenizer() as local:
        yield [local, service]


def pcm_of(name: str) -> bytes:
    samples, rate = soundfile.read(ROOT / "samples" / f"{name}.wav", dtype="int16")
    assert rate == 16_000
    pcm: bytes = samples.tobytes()
    return pcm


def speech(pcm: bytes, size: int = 1280) -> list[pb.TokenizeRequest]:
    return [pb.TokenizeRequest(pcm=pcm[at : at + size]) for at in range(0, len(pcm), size)]


def config(**fields: Any) -> pb.TokenizeRequest:
    return pb.TokenizeRequest(config=pb.TokenizeConfig(**fields))


async def tokenize(service: Running, requests: list[pb.TokenizeRequest]) -> list[pb.TokenizeResponse]:
    return [response async for response in service.stub.Tokenize(iter(requests))]


async def test_info(twins: list[Running]) -> None:
    async def info(service: Running) -> Any:
        return await service.stub.Info(pb.SpeechTokenizerInfoRequest())

    assert (await both(twins, info)).sample_rate == 16_000


@pytest.mark.parametrize("interim", [False, True])
async def test_tokens(twins: list[Running], interim: bool) -> None:
    requests = [config(interim_results=interim), *speech(pcm_of("book-pick-up"))]

    async def run(service: Running) -> Any:
        return await tokenize(service, requests)

    responses = await both(twins, run)
    assert sum(len(response.tokens) for response in responses if response.is_final) == 45
    assert any(not response.is_final for response in responses) == interim


async def test_callers_at_once_are_as_alone(service: Running) -> None:
    voices = [speech(pcm_of(name)) for name in ("address", "price-medium", "goodbye", "parcel-number")]
    alone = [await tokenize(service, voice) for voice in voices]
    assert await asyncio.gather(*(tokenize(service, voice) for voice in voices)) == alone


async def test_an_utterance_without_sound_has_no_tokens(service: Running) -> None:
    assert await tokenize(service, []) == []


@pytest.mark.parametrize(
    "requests",
    [
        [pb.TokenizeRequest(pcm=b"\0\0\0")],
        [pb.TokenizeRequest()],
        [pb.TokenizeRequest(pcm=b"\0\0"), config()],
        [config(sample_rate=8000)],
        speech(bytes(2 * 16_000 * 121), 2**20),
    ],
)
async def test_bad_input_is_refused_alike(twins: list[Running], requests: list[pb.TokenizeRequest]) -> None:
    async def run(service: Running) -> Any:
        return await service.refusal(service.stub.Tokenize, requests)

    code, details = await both(twins, run)
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert details
    await twins[1].until_free()
