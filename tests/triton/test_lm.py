"""The language model over Triton continues as the engine in the service's own process does."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from tests.triton.server import TritonServer
from tests.triton.talk import Talk
from tests.triton.twins import Running, both, local_lm, triton_lm
from trunkline.v1 import lm_pb2

LONG = "we are open from nine to six and on saturday from ten to two " * 8


@pytest.fixture
async def service(triton: TritonServer) -> AsyncIterator[Running]:
    async with triton_lm(triton.url) as running:
        yield running


@pytest.fixture
async def twins(service: Running) -> AsyncIterator[list[Running]]:
    async with local_lm() as local:
        yield [local, service]


async def test_info(twins: list[Running]) -> None:
    async def info(service: Running) -> Any:
        return await service.stub.Info(lm_pb2.VoiceLMInfoRequest())

    assert (await both(twins, info)).codebook_size == 1024


async def test_a_conversation(twins: list[Running]) -> None:
    async def converse(service: Running) -> Any:
        talk = await Talk(service).prompted()
        answers = [await talk.generate(max_new_tokens=120)]
        await talk.append(user_speech=lm_pb2.SpeechTokens(tokens=range(0, 1000, 25)))
        await talk.append(end_of_speech=lm_pb2.EndOfSpeech())
        answers.append(await talk.generate(temperature=0.7, top_p=0.9, seed=2**64 - 1, max_new_tokens=80))
        await talk.append(user_text="thanks")
        answers.append(await talk.generate(say="You are welcome. 好", temperature=1.0, seed=3))
        await talk.send(close=lm_pb2.CloseSession())
        assert (await talk.status())[0] is grpc.StatusCode.OK
        return answers, talk.tokens

    answers, _ = await both(twins, converse)
    assert answers[0][0].strip()
    assert answers[2][0] == "You are welcome. 好"


async def test_another_session_takes_over_in_mid_answer(service: Running) -> None:
    settings: dict[str, Any] = {"temperature": 1.0, "seed": 8, "max_new_tokens": 60}
    first = await Talk(service).prompted()
    start = len(first.tokens)
    await first.generate(**settings)
    second = await Talk(service).open(first.tokens[: start + 30])
    await second.generate(**{**settings, "max_new_tokens": len(first.tokens) - start - 30}, resume=True)
    assert second.tokens == first.tokens


async def test_truncated_in_mid_answer_it_goes_on_as_if_nothing_had_been(service: Running) -> None:
    talk = await Talk(service).prompted()
    length = len(talk.tokens) + 20
    await talk.send(generate=lm_pb2.Generate(say=LONG))
    while len(talk.tokens) < length + 10:
        await talk.receive()
    await talk.send(truncate=lm_pb2.Truncate(length=length))
    _, finished = await talk.rest()
    assert finished.reason == lm_pb2.FINISH_REASON_CANCELLED
    assert (await talk.receive()).truncated.length == length
    fresh = await Talk(service).open(talk.tokens)
    for each in (talk, fresh):
        await each.append(user_text="again")
        await each.generate(max_new_tokens=30)
    assert talk.tokens == fresh.tokens


async def test_cancelled_in_mid_answer(service: Running) -> None:
    talk = await Talk(service).prompted()
    await talk.send(generate=lm_pb2.Generate(say=LONG))
    for _ in range(5):
        assert (await talk.receive()).HasField("generated")
    await talk.send(cancel=lm_pb2.CancelGeneration())
    _, finished = await talk.rest()
    assert finished.reason == lm_pb2.FINISH_REASON_CANCELLED
    await talk.append(user_text="stop")


async def test_sessions_at_once_are_as_alone(service: Running) -> None:
    async def converse(seed: int) -> list[int]:
        talk = await Talk(service).prompted()
        await talk.generate(temperature=1.0, seed=seed, max_new_tokens=60)
        talk.call.cancel()
        return talk.tokens

    alone = [await converse(seed) for seed in range(4)]
    await service.until_free()
    assert await asyncio.gather(*(converse(seed) for seed in range(4))) == alone


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ({"append": lm_pb2.Append(user_text="x " * 5000)}, "OUT_OF_RANGE"),
        ({"append": lm_pb2.Append(user_speech=lm_pb2.SpeechTokens(tokens=[1024]))}, "INVALID_ARGUMENT"),
        ({"truncate": lm_pb2.Truncate(length=9999)}, "INVALID_ARGUMENT"),
        ({"open": lm_pb2.OpenSession()}, "FAILED_PRECONDITION"),
        ({"generate": lm_pb2.Generate(resume=True)}, "FAILED_PRECONDITION"),
        ({"generate": lm_pb2.Generate(temperature=-1)}, "INVALID_ARGUMENT"),
    ],
)
async def test_bad_commands_are_refused_alike(twins: list[Running], command: dict[str, Any], code: str) -> None:
    async def refusal(service: Running) -> Any:
        talk = await Talk(service).prompted()
        await talk.send(**command)
        return await talk.status()

    status, details = await both(twins, refusal)
    assert status.name == code
    assert details
    await twins[1].until_free()


async def test_ids_that_the_vocabulary_has_not_are_refused_alike(twins: list[Running]) -> None:
    async def refusal(service: Running) -> Any:
        talk = Talk(service)
        await talk.send(open=lm_pb2.OpenSession(tokens=[5, 2**31]))
        return await talk.status()

    status, details = await both(twins, refusal)
    assert status is grpc.StatusCode.INVALID_ARGUMENT
    assert str(2**31) in details
