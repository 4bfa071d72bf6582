"""What the engine vllm must do beside the contract, over real gRPC."""

import asyncio
import json
import random
from pathlib import Path

import grpc
from vllm import SamplingParams
from vllm.inputs import tokens_input

from services.lm.engine import Added, Event, Finished, GenerationSettings
from services.lm.torch_engine.build import TorchSettings
from services.lm.torch_engine.build import build as build_torch
from services.lm.vllm_engine.engine import VllmEngine
from tests.contract.test_lm import LONG, Service, Talk, idle, until
from tests.vllm.conftest import SESSIONS
from trunkline.v1 import lm_pb2


async def until_empty(service: Service, engine: VllmEngine) -> None:
    """No session, no request, and no block of keys and values that is in use."""

    async def empty() -> bool:
        return await idle(service) and await engine.core.llm.reset_prefix_cache()

    await until(empty)


async def test_golden_tokens(engine: VllmEngine, golden_dir: Path) -> None:
    for case in json.loads((golden_dir / "lm" / "golden.json").read_text()):
        prompt, expected = case["prompt"], case["greedy"]
        for cut in (0, 1, len(prompt) // 2):
            stream = engine.core.stream()
            if cut:
                stream.prefill(prompt[:cut])
            tokens = [token async for token in stream.generate(prompt[cut:], None, (), len(expected))]
            stream.abort()
            assert tokens == expected


async def converse(service: Service, seed: int, length: int) -> list[int]:
    """Two turns over a history of `length` tokens: one freely answered, one said."""
    chance = random.Random(seed)
    history = [chance.randrange(256) for _ in range(length)]
    talk = await Talk(service).open(history)
    await talk.speak(range(seed, 30 + seed), range(seed % 9))
    await talk.generate(temperature=0.7 * (seed % 3), top_p=0.9, seed=seed, max_new_tokens=40)
    await talk.append(user_text="and then?")
    await talk.generate(say=f"hello {seed}, hello world", temperature=1.0, seed=seed)
    await talk.send(close=lm_pb2.CloseSession())
    assert (await talk.status())[0] is grpc.StatusCode.OK
    return talk.tokens


LENGTHS = (0, 1, 20, 127, 128, 300, 511, 700)


async def test_a_batch_of_eight_is_as_each_alone(large_service: Service) -> None:
    alone = [await converse(large_service, seed, length) for seed, length in enumerate(LENGTHS)]
    together = await asyncio.gather(*(converse(large_service, seed, length) for seed, length in enumerate(LENGTHS)))
    assert together == alone


async def test_more_than_the_memory_holds(large_service: Service, engine: VllmEngine) -> None:
    length = 800
    alone = await converse(large_service, 1, length)
    idle_talks = [await Talk(large_service).open([seed] * length) for seed in range(SESSIONS - 8)]
    together = await asyncio.gather(*(converse(large_service, 1 + 3 * (n == 7), length) for n in range(8)))
    assert together[:7] == [alone] * 7
    assert together[7] != alone
    for talk in idle_talks:
        talk.call.cancel()
    await until_empty(large_service, engine)


async def test_the_torch_engine_gives_the_same(large_service: Service, checkpoint_dir: Path) -> None:
    template = large_service.template
    engine, _ = build_torch(checkpoint_dir, template, TorchSettings())
    try:
        for settings in (
            GenerationSettings(max_new_tokens=60),
            GenerationSettings(temperature=1.0, top_p=0.8, seed=7, max_new_tokens=100),
            GenerationSettings(temperature=1.0, seed=2**64 - 1, say="hello world, how are you today?"),
        ):
            events: asyncio.Queue[Event] = asyncio.Queue()
            session = await engine.open([*template.prefix, *template.user_text("hi")], events.put_nowait)
            await session.generate(settings)
            expected: list[Event] = []
            while not expected or not isinstance(expected[-1], Finished):
                expected.append(await events.get())
            session.close()
            talk = await Talk(large_service).open([*template.prefix, *template.user_text("hi")])
            answer, finished = await talk.generate(
                temperature=settings.temperature,
                top_p=settings.top_p,
                seed=settings.seed,
                max_new_tokens=settings.max_new_tokens,
                say=settings.say,
            )
            added = [event for event in expected if isinstance(event, Added)]
            assert [i for event in answer for i in event.tokens] == [i for event in added for i in event.tokens]
            assert finished.length == expected[-1].length
            await talk.send(close=lm_pb2.CloseSession())
            assert (await talk.status())[0] is grpc.StatusCode.OK
    finally:
        engine.stop()


async def test_truncation_at_every_length(large_service: Service) -> None:
    """Within what is computed, at and around the edges of blocks, and nothing at all."""
    talk = await Talk(large_service).open([65] * 250)
    await talk.generate(temperature=1.0, seed=3, max_new_tokens=30)
    for length in (len(talk.tokens), len(talk.tokens) - 1, 257, 256, 255, 129, 128, 127, 1):
        await talk.send(truncate=lm_pb2.Truncate(length=length))
        assert (await talk.receive()).truncated.length == length
        fresh = await Talk(large_service).open(talk.tokens)
        for each in (talk, fresh):
            await each.generate(temperature=1.0, seed=length, max_new_tokens=5)
        assert talk.tokens == fresh.tokens
        fresh.call.cancel()


async def test_two_hundred_aborted_streams_leave_nothing(large_service: Service, engine: VllmEngine) -> None:
    chance = random.Random(200)

    async def vanish(steps: int, length: int) -> None:
        talk = Talk(large_service)
        try:
            await talk.open([70] * length)
            await talk.append(user_speech=lm_pb2.SpeechTokens(tokens=range(50)))
            await talk.append(end_of_speech=lm_pb2.EndOfSpeech())
            await talk.send(generate=lm_pb2.Generate(say=LONG if steps % 2 else "", temperature=1.0, seed=steps))
            for _ in range(steps):
                if (await talk.receive()).HasField("finished"):
                    break
        finally:
            talk.call.cancel()

    tasks: list[asyncio.Task[None]] = []
    for _ in range(200):
        while len(alive := [task for task in tasks if not task.done()]) >= SESSIONS:
            await asyncio.wait(alive, return_when=asyncio.FIRST_COMPLETED)
        task = asyncio.create_task(vanish(chance.randrange(30), chance.randrange(500)))
        tasks.append(task)
        for _ in range(chance.randrange(30)):
            await asyncio.sleep(0)
        if chance.random() < 0.5:
            task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await until_empty(large_service, engine)


async def test_a_session_that_was_given_up_comes_back_from_the_prefix_cache(
    large_service: Service, engine: VllmEngine
) -> None:
    llm = engine.core.llm
    assert await llm.reset_prefix_cache()
    talk = await Talk(large_service).open([66] * 700)
    await talk.generate(temperature=1.0, seed=1, max_new_tokens=100)
    talk.call.cancel()
    await until(lambda: idle(large_service))
    params = SamplingParams(max_tokens=1, temperature=0.0, detokenize=False)
    outputs = [output async for output in llm.generate(tokens_input(talk.tokens), params, "again")]
    assert outputs[-1].num_cached_tokens == (len(talk.tokens) - 1) // 128 * 128
