"""More callers than lines: exactly as many are answered as there are places, all others are told when to come back."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import numpy as np
import pytest

from loadtest.sip.wire import Caller, Message, acknowledgement, caller
from services.agent.legs.base import CallRefusedError, Leg
from services.common.channels import channel
from tests.integration.kamailio_edge import edge, metric
from tests.integration.line_bots import Whistler, sip_workers
from tests.integration.personas import short_persona
from tests.integration.phone import CallFailedError, phone
from tests.integration.sip_bots import endpoint, until
from tests.integration.stack import Agent, Stack, free_again
from trunkline.v1 import (
    calls_pb2,
    calls_pb2_grpc,
    decoder_pb2,
    decoder_pb2_grpc,
    lm_pb2,
    lm_pb2_grpc,
    tokenizer_pb2,
    tokenizer_pb2_grpc,
)

CAPACITY = 2
OFFERED = 6
ANSWER_S = 60.0
LOUD = 300  # of 32768


@pytest.fixture(scope="module")
def agent(tiny_stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    personas = short_persona(tmp_path_factory.mktemp("personas"))
    with tiny_stack.agent(capacity=CAPACITY, personas=personas, sip=True) as agent:
        yield agent


@asynccontextmanager
async def callers(port: int, count: int) -> AsyncIterator[list[Caller]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(caller(port)) for _ in range(count)]


async def final(wire: Caller) -> Message:
    """The final response to the INVITE, acknowledged."""
    message = await wire.response("INVITE", 200, 486, 487, 500, 503, timeout_s=ANSWER_S)
    if message.status == 200:
        wire.request("ACK")
    else:
        wire.send_raw(acknowledgement(message))
    return message


async def hears_the_greeting(wire: Caller) -> None:
    async with asyncio.timeout(ANSWER_S):
        while np.abs((await wire.listen(0.2)).astype(np.int32)).max(initial=0) < LOUD:
            pass


async def hang_up(wire: Caller) -> None:
    wire.request("BYE")
    await wire.response("BYE", 200, 481, timeout_s=ANSWER_S)


async def only_so_many_are_left(agent: Agent, calls: int) -> None:
    async with channel(agent.calls) as connection:
        stub: calls_pb2_grpc.CallsAsyncStub = calls_pb2_grpc.CallsStub(connection)
        async with asyncio.timeout(ANSWER_S):
            while (await stub.Info(calls_pb2.CallsInfoRequest())).active != calls:
                await asyncio.sleep(0.05)


async def nothing_is_left(agent: Agent, stack: Stack) -> None:
    """Neither at the agent nor at the model services."""
    await free_again(agent)
    async with channel(stack.tokenizer) as tokenizer, channel(stack.lm) as lm, channel(stack.decoder) as decoder:
        tokenizers: tokenizer_pb2_grpc.SpeechTokenizerAsyncStub = tokenizer_pb2_grpc.SpeechTokenizerStub(tokenizer)
        models: lm_pb2_grpc.VoiceLMAsyncStub = lm_pb2_grpc.VoiceLMStub(lm)
        decoders: decoder_pb2_grpc.SpeechDecoderAsyncStub = decoder_pb2_grpc.SpeechDecoderStub(decoder)
        async with asyncio.timeout(ANSWER_S):
            while (
                (await tokenizers.Info(tokenizer_pb2.SpeechTokenizerInfoRequest())).active
                + (await models.Info(lm_pb2.VoiceLMInfoRequest())).active
                + (await decoders.Info(decoder_pb2.SpeechDecoderInfoRequest())).active
            ):
                await asyncio.sleep(0.05)


async def test_three_times_as_many_calls_as_lines(agent: Agent, tiny_stack: Stack) -> None:
    async with callers(agent.sip_port, OFFERED) as wires:
        for wire in wires:
            wire.invite()
        finals = await asyncio.gather(*(final(wire) for wire in wires))
        assert sorted(message.status for message in finals) == [200] * CAPACITY + [503] * (OFFERED - CAPACITY)
        answered = [wire for wire, message in zip(wires, finals, strict=True) if message.status == 200]
        for message in finals:
            if message.status == 503:
                assert 1 <= int(message.header("Retry-After")) <= 75
        for wire in answered:
            assert 180 in [message.status for message in wire.received], "it rang before it was answered"
        await asyncio.gather(*(hears_the_greeting(wire) for wire in answered))
        await hang_up(answered[0])
        await only_so_many_are_left(agent, 1)
        async with caller(agent.sip_port) as late:
            late.invite()
            assert (await final(late)).status == 200, "a line that came free is given away"
            await hang_up(late)
        await hang_up(answered[1])
    await nothing_is_left(agent, tiny_stack)


@pytest.mark.parametrize("seed", [1, 2])
async def test_callers_who_give_up_while_places_are_reserved_leave_nothing(
    agent: Agent, tiny_stack: Stack, seed: int
) -> None:
    chance = random.Random(seed)

    async def ring_and_give_up(wire: Caller, after_s: float) -> int:
        wire.invite()
        await wire.response("INVITE", 180, 503, timeout_s=ANSWER_S)
        if wire.received[-1].status == 503:
            wire.send_raw(acknowledgement(wire.received[-1]))
            return 503
        await asyncio.sleep(after_s)
        wire.request("CANCEL")
        message = await final(wire)
        if message.status == 200:  # it crossed the CANCEL
            await hang_up(wire)
        return message.status

    async with callers(agent.sip_port, 2 * OFFERED) as wires:
        moments = [chance.uniform(0.0, 0.15) for _ in wires]
        statuses = await asyncio.gather(*map(ring_and_give_up, wires, moments))
    assert set(statuses) <= {200, 487, 503}
    await nothing_is_left(agent, tiny_stack)


async def test_a_full_model_service_is_told_of_in_the_same_way(agent: Agent, tiny_stack: Stack) -> None:
    async with channel(tiny_stack.lm) as connection, caller(agent.sip_port) as wire:
        stub: lm_pb2_grpc.VoiceLMAsyncStub = lm_pb2_grpc.VoiceLMStub(connection)
        capacity = (await stub.Info(lm_pb2.VoiceLMInfoRequest())).capacity
        sessions = [stub.Converse() for _ in range(capacity)]
        for session in sessions:
            await session.write(lm_pb2.ConverseRequest(open=lm_pb2.OpenSession()))
            await session.read()
        wire.invite()
        message = await final(wire)
        assert (message.status, int(message.header("Retry-After")) > 0) == (503, True)
        for session in sessions:
            session.cancel()
    await nothing_is_left(agent, tiny_stack)


async def test_phones_may_be_told_that_the_line_is_busy() -> None:
    async def full(leg: Leg) -> str:
        raise CallRefusedError("all lines are busy", 7)

    for status, told in ((503, "7"), (486, "")):
        async with endpoint(full, busy_status=status) as line, caller(line.port) as wire:
            wire.invite()
            message = await final(wire)
            assert (message.status, message.header("Retry-After")) == (status, told)


async def test_a_call_is_never_ended_by_declining_another_with_its_id() -> None:
    """Call-IDs are the callers' to choose."""
    bot = Whistler(capacity=1)
    async with sip_workers(bot, count=1, busy_status=503) as lines, callers(lines.ports[0], 2) as (one, other):
        await one.answered()
        other.call_id = one.call_id
        other.invite()
        assert (await final(other)).status in (486, 503)
        assert len(bot.live()) == 1
        assert len(await one.listen(0.2)) > 0
        assert not one.requests_so_far()


async def test_refusals_that_cross_cancels_do_not_harm_the_worker() -> None:
    chance = random.Random(1)

    async def ring(wire: Caller) -> int:
        wire.invite()
        if chance.random() < 0.5:
            await asyncio.sleep(chance.uniform(0.0, 0.02))
            wire.request("CANCEL")
        return (await final(wire)).status

    async with sip_workers(Whistler(capacity=0), count=1, busy_status=503) as lines:
        (worker,) = lines.workers.values()
        statuses = set()
        for _ in range(15):
            async with callers(lines.ports[0], 10) as wires:
                statuses |= set(await asyncio.gather(*map(ring, wires)))
        assert statuses <= {486, 487, 503}
        assert lines.workers == {0: worker}, "the very process"


async def test_behind_an_edge_a_full_worker_is_passed_by_and_not_taken_for_dead(
    tmp_path: Path, require_debian: Callable[..., None]
) -> None:
    require_debian("kamailio", "baresip")
    bot = Whistler(capacity=1)
    async with (
        sip_workers(bot, busy_status=503) as lines,
        edge(tmp_path, lines.ports) as front,
        phone(tmp_path / "phone") as handset,
        caller(front.port) as other,
    ):
        await handset.call(f"sip:anyone@127.0.0.1:{front.port}")
        other.invite()
        message = await final(other)
        assert (message.status, int(message.header("Retry-After"))) == (503, 5)
        async with asyncio.timeout(ANSWER_S):
            while True:  # for five seconds nobody is asked again; on a slow machine they may be over
                asked = await metric(front, 'failovers_total{reason="full"}')
                async with caller(front.port) as another:
                    another.invite()
                    message = await final(another)
                assert (message.status, int(message.header("Retry-After")) in range(1, 6)) == (503, True)
                if await metric(front, 'failovers_total{reason="full"}') == asked:
                    break
        await handset.hang_up()
        await until(lambda: not bot.live())
        async with asyncio.timeout(ANSWER_S):
            while not bot.live():  # the edge may learn of the end a moment after us
                with contextlib.suppress(CallFailedError):
                    await handset.call(f"sip:anyone@127.0.0.1:{front.port}")
        await handset.hang_up()
        assert await metric(front, 'failovers_total{reason="silent"}') == 0, "no worker is marked as down"
