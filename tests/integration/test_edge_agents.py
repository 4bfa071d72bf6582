"""Three agents behind the edge: new calls reach the one that lives and has room, and live calls stay where they are."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import grpc
import pytest

from loadtest.sip.wire import Caller, caller
from tests.integration.kamailio_edge import Edge, edge
from tests.integration.personas import short_persona
from tests.integration.stack import Agent, Stack
from tests.integration.test_admission import final, hang_up
from tests.integration.test_drain import drains
from trunkline.v1 import calls_pb2, calls_pb2_grpc

WAIT_S = 120.0
LONG_S = 3600.0
PLACES = 2


@pytest.fixture
def agents(
    tiny_stack: Stack, tmp_path_factory: pytest.TempPathFactory, require_debian: Callable[..., None]
) -> Iterator[list[Agent]]:
    """Three, of which the second one will be killed."""
    require_debian("kamailio")
    personas = short_persona(tmp_path_factory.mktemp("personas"))
    with (
        tiny_stack.agent(PLACES, personas, True, drain_s=LONG_S) as drained,
        tiny_stack.agent(PLACES, personas, True, ends=-9) as killed,
        tiny_stack.agent(PLACES, personas, True) as living,
    ):
        yield [drained, killed, living]


async def active(agent: Agent) -> int:
    """Its calls now."""
    async with grpc.aio.insecure_channel(agent.calls) as channel:
        stub: calls_pb2_grpc.CallsAsyncStub = calls_pb2_grpc.CallsStub(channel)
        return (await stub.Info(calls_pb2.CallsInfoRequest())).active


async def a_call(stack: AsyncExitStack, front: Edge) -> Caller:
    """One that is answered."""
    wire = await stack.enter_async_context(caller(front.port))
    wire.invite()
    message = await final(wire)
    assert message.status == 200, message.text
    return wire


async def a_call_soon(stack: AsyncExitStack, front: Edge) -> Caller:
    """One that is answered when a line has come free, for which an agent needs a moment."""
    async with asyncio.timeout(WAIT_S):
        while True:
            wire = await stack.enter_async_context(caller(front.port))
            wire.invite()
            if (await final(wire)).status == 200:
                return wire


async def refused(front: Edge) -> int:
    """The Retry-After of a call that is refused."""
    async with caller(front.port) as wire:
        wire.invite()
        message = await final(wire)
        assert message.status == 503
        return int(message.header("Retry-After"))


async def test_one_is_drained_one_is_killed_and_calls_go_on(agents: list[Agent], tmp_path: Path) -> None:
    drained, killed, living = agents
    async with edge(tmp_path, [agent.sip_port for agent in agents]) as front, AsyncExitStack() as stack:
        calls = [await a_call(stack, front) for _ in agents]
        assert [await active(agent) for agent in agents] == [1, 1, 1]
        on: dict[int, Caller] = {wire.remote_port: wire for wire in calls}
        await drains(drained)
        killed.process.kill()
        new = await a_call(stack, front)
        assert new.remote_port == living.sip_port
        assert await refused(front) >= 1, "one is draining, one is dead, one is full"
        for agent in drained, living:
            wire = on[agent.sip_port]
            for direction in "sendonly", "sendrecv":
                wire.invite(direction)
                assert (await final(wire)).status == 200
            async with asyncio.timeout(WAIT_S):
                while not len(await wire.listen(0.2)):
                    pass
            await hang_up(wire)
        assert await asyncio.to_thread(drained.process.wait, WAIT_S) == 0, "it leaves with its last call"
        assert (await a_call_soon(stack, front)).remote_port == living.sip_port
