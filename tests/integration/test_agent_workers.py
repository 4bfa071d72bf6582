"""A whole agent and its SIP workers, from outside: over the golden data's random weights."""

import os
import re
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import grpc
import numpy as np
import pytest
import redis.asyncio as redis

from tests.integration.kamailio_edge import edge
from tests.integration.phone import RATE, Phone, phone
from tests.integration.sip_bots import has_tone, tone, until
from tests.integration.stack import HOST, KEYS, Agent, Stack, free_again
from trunkline.v1 import calls_pb2, calls_pb2_grpc

LISTENS = re.compile(r"a SIP worker listens worker=(\d+) port=(\d+) pid=(\d+)")


@pytest.fixture(scope="module")
def agent(tiny_stack: Stack, require_debian: Callable[..., None]) -> Iterator[Agent]:
    require_debian("baresip", "kamailio")
    with tiny_stack.agent(sip=True, sip_workers=2) as running:
        yield running


def workers(agent: Agent) -> list[tuple[int, int]]:
    """Port and process of each worker, as the agent's log has it."""
    return [(int(port), int(pid)) for _, port, pid in sorted(LISTENS.findall(agent.process.log.read_text()))]


def temporary_directory(pid: int) -> str:
    """Of a worker."""
    environment = Path(f"/proc/{pid}/environ").read_text().split("\0")
    return next(entry.removeprefix("TMPDIR=") for entry in environment if entry.startswith("TMPDIR="))


async def speaks(handset: Phone, since: int = 0) -> None:
    """Until the bot is heard."""
    await until(lambda: np.abs(handset.heard()[since:].astype(np.int32)).max(initial=0) > 300)


async def test_who_is_transferred_through_the_edge_is_heard_by_the_colleague(agent: Agent, tmp_path: Path) -> None:
    ports = [port for port, _ in workers(agent)]
    async with AsyncExitStack() as stack:
        colleague = await stack.enter_async_context(phone(tmp_path / "200", "200", account=";answermode=auto"))
        front = await stack.enter_async_context(edge(tmp_path, ports, [colleague.uri]))
        caller = await stack.enter_async_context(phone(tmp_path / "caller", "caller"))
        await caller.call(f"sip:anyone@{HOST}:{front.port}")
        await speaks(caller)
        async with grpc.aio.insecure_channel(agent.calls) as channel:
            calls = calls_pb2_grpc.CallsStub(channel)
            [call] = (await calls.ListCalls(calls_pb2.ListCallsRequest())).calls
            ending = calls.WatchCalls(calls_pb2.WatchCallsRequest(call_id=call.call_id))
            target = f"sip:200@{HOST}:{front.port}"
            await calls.Transfer(calls_pb2.TransferRequest(call_id=call.call_id, target=target))
            records = [event.call async for event in ending if event.HasField("call")]
        assert records[-1].end_reason == "transferred"
        await until(lambda: any(event["peeruri"] == target for event in caller.events_of("CALL_ESTABLISHED")))
        await caller.play(tone(440, 20, RATE))
        await until(lambda: has_tone(colleague.heard()[-RATE:], RATE, 440, 30))
    await free_again(agent)


async def test_a_worker_that_dies_takes_its_calls_along_and_no_others(
    agent: Agent, tiny_stack: Stack, tmp_path: Path
) -> None:
    (first, victim), (second, _) = workers(agent)
    client = redis.Redis.from_url(tiny_stack.redis_url, decode_responses=True)
    async with phone(tmp_path / "1", "ann") as ann, phone(tmp_path / "2", "bob") as bob:
        await ann.call(f"sip:anyone@{HOST}:{first}")
        await bob.call(f"sip:anyone@{HOST}:{second}")
        await speaks(ann)
        await speaks(bob)
        async with grpc.aio.insecure_channel(agent.calls) as channel:
            calls = calls_pb2_grpc.CallsStub(channel)
            listed = (await calls.ListCalls(calls_pb2.ListCallsRequest())).calls
            [anns] = [call.call_id for call in listed if "ann@" in getattr(call, "from")]
            os.kill(victim, signal.SIGSEGV)
            end = time.monotonic() + 20
            while (info := await calls.Info(calls_pb2.CallsInfoRequest())).active > 1:
                assert time.monotonic() < end, "the slot is not free"
        record = await client.hgetall(KEYS.call(anns))
        assert (record["state"], record["reason"]) == ("ended", "SIP worker died")
        assert info.active == 1
        assert "Segmentation fault" in agent.process.log.read_text()
        await until(lambda: "a SIP worker is back" in agent.process.log.read_text())
        await ann.hang_up()
        await ann.wait_for("CALL_CLOSED")
        await ann.call(f"sip:anyone@{HOST}:{first}")
        since = len(bob.heard())
        await speaks(ann)
        await until(lambda: len(bob.heard()) > since + RATE)
        assert not bob.events_of("CALL_CLOSED")
    await client.aclose()
    await free_again(agent)


async def test_an_agent_that_is_killed_leaves_no_caller_waiting(tiny_stack: Stack, tmp_path: Path) -> None:
    with tiny_stack.agent(sip=True, ends=-signal.SIGKILL) as agent:
        async with phone(tmp_path) as handset:
            await handset.call(agent.sip_uri)
            [(port, worker)] = workers(agent)
            directory = temporary_directory(worker)
            assert os.listdir(directory)
            agent.process.kill()
            await handset.wait_for("CALL_CLOSED")
            await until(lambda: not os.path.exists(f"/proc/{worker}"))
        assert os.path.basename(directory) not in os.listdir(os.path.dirname(directory))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind((HOST, port))
