"""The decoder over Triton sounds as the engine in the service's own process does."""

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import grpc
import numpy as np
import pytest

from tests.triton.server import TritonServer
from tests.triton.twins import Running, both, local_decoder, triton_decoder
from trunkline.v1 import decoder_pb2 as pb


@pytest.fixture
async def service(triton: TritonServer) -> AsyncIterator[Running]:
    async with triton_decoder(triton.url) as running:
        yield running


@pytest.fixture
async def twins(service: Running) -> AsyncIterator[list[Running]]:
    async with local_decoder() as local:
        yield [local, service]


def some_codes(count: int, seed: int = 0) -> list[int]:
    chance = random.Random(seed)
    return [chance.randrange(1024) for _ in range(count)]


def codes(values: list[int]) -> pb.SynthesizeRequest:
    return pb.SynthesizeRequest(codes=pb.SpeechCodes(codes=values))


def config(**fields: Any) -> pb.SynthesizeRequest:
    return pb.SynthesizeRequest(config=pb.SynthesizeConfig(**fields))


async def synthesize(service: Running, *requests: pb.SynthesizeRequest) -> list[pb.SynthesizeResponse]:
    return [response async for response in service.stub.Synthesize(iter(requests))]


def sound(responses: list[pb.SynthesizeResponse]) -> Any:
    return np.frombuffer(b"".join(response.pcm for response in responses), "<i2").astype(np.int32)


def rms(samples: Any) -> float:
    return float(np.sqrt(np.mean(np.square(samples.astype(float)))))


async def test_info(twins: list[Running]) -> None:
    async def info(service: Running) -> Any:
        return await service.stub.Info(pb.SpeechDecoderInfoRequest())

    assert (await both(twins, info)).codebook_size == 1024


async def test_audio(twins: list[Running]) -> None:
    values = some_codes(70)
    requests = [config(seed=2**64 - 1), codes(values[:4]), codes(values[4:33]), codes(values[33:])]
    local, over_triton = [await synthesize(service, *requests) for service in twins]
    assert [response.tokens_done for response in local] == [response.tokens_done for response in over_triton]
    assert np.abs(sound(local) - sound(over_triton)).max() <= 1
    assert np.abs(sound(local)).max() > 100
    other = sound(await synthesize(twins[1], config(seed=1), *requests[1:]))
    assert np.abs(other - sound(local)).max() > 10, "the seed arrived"


async def test_callers_at_once_are_as_alone(service: Running) -> None:
    utterances = [codes(some_codes(20 + 15 * seed, seed)) for seed in range(4)]
    alone = [sound(await synthesize(service, utterance)) for utterance in utterances]
    together = await asyncio.gather(*(synthesize(service, utterance) for utterance in utterances))
    for one, other in zip(alone, together, strict=True):
        # sums are in another order in a batch, which the ear is 50 dB from hearing
        assert rms(one - sound(other)) < 0.003 * rms(one)


async def test_a_voice_is_registered_at_triton(twins: list[Running]) -> None:
    pcm = (np.random.default_rng(1).normal(size=22_050 * 4) * 1000).astype("<i2").tobytes()
    reference = pb.RegisterVoiceRequest(pcm=pcm, codes=some_codes(50))

    async def register(service: Running) -> Any:
        return (await service.stub.RegisterVoice(reference)).voice_id

    voice = await both(twins, register)
    assert voice in (await twins[1].stub.Info(pb.SpeechDecoderInfoRequest())).voices
    requests = [config(voice_id=voice), codes(some_codes(30))]
    local, over_triton = [sound(await synthesize(service, *requests)) for service in twins]
    assert np.abs(local - over_triton).max() <= 1
    plain = sound(await synthesize(twins[1], codes(some_codes(30))))
    assert np.abs(plain - over_triton).max() > 10
    for service in twins:
        await service.stub.ForgetVoice(pb.ForgetVoiceRequest(voice_id=voice))
        info = await service.stub.Info(pb.SpeechDecoderInfoRequest())
        assert (list(info.voices), info.speaker_model) == ([], False)


@pytest.mark.parametrize(
    "requests",
    [
        [codes([1, 1024])],
        [codes([])],
        [pb.SynthesizeRequest()],
        [codes([1]), config()],
    ],
)
async def test_bad_input_is_refused_alike(twins: list[Running], requests: list[pb.SynthesizeRequest]) -> None:
    async def run(service: Running) -> Any:
        return await service.refusal(service.stub.Synthesize, requests)

    code, details = await both(twins, run)
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert details
    await twins[1].until_free()


async def test_an_unknown_voice_is_not_found_alike(twins: list[Running]) -> None:
    async def run(service: Running) -> Any:
        return await service.refusal(service.stub.Synthesize, [config(voice_id="nobody"), codes([1])])

    code, details = await both(twins, run)
    assert code is grpc.StatusCode.NOT_FOUND
    assert "nobody" in details


async def test_a_bad_reference_is_refused_alike(twins: list[Running]) -> None:
    async def run(service: Running) -> Any:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await service.stub.RegisterVoice(pb.RegisterVoiceRequest(pcm=bytes(100), codes=[1]))
        return refused.value.code(), refused.value.details()

    code, details = await both(twins, run)
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "reference audio must last" in details
