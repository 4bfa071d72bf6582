"""Many calls to an agent, one after another, each hung up at a random moment by either side; and what is left of them.

The agent runs in this process, so that its tasks and objects can be counted; its SIP workers are processes as always.
"""

import asyncio
import gc
import os
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import redis.asyncio as redis

from loadtest.sip.wire import Caller, acknowledgement, caller
from services.agent.app import start
from services.agent.call import Call
from services.agent.legs.sip_workers.leg import RemoteSipLeg
from services.agent.legs.sip_workers.link import WorkerLink
from services.agent.legs.sip_workers.messages import Ping
from services.agent.legs.sip_workers.supervisor import SipWorkers
from services.agent.settings import AgentSettings
from services.agent.speech import Speech
from tests.integration.stack import HOST, KEYS, Stack, free_port
from trunkline.v1 import calls_pb2, calls_pb2_grpc, lm_pb2, lm_pb2_grpc

CAPACITY = 4
STEADY = 5  # looks in a row
LONGEST_S = 1.0  # a call is hung up within it
WAYS = ("caller cancels", "caller hangs up", "agent declines", "agent hangs up")


@dataclass(frozen=True)
class Residue:
    """What is held when no call is there: the agent's own first, then each worker's.

    Connections to Redis are counted apart. A pool keeps as many as were once wanted at the same moment.
    """

    tasks: tuple[int, ...]
    descriptors: tuple[int, ...]
    sockets: tuple[int, ...]
    threads: tuple[int, ...]
    objects: int  # calls, legs and conversations
    pooled: int = field(compare=False)


@dataclass
class Line:
    """An agent with workers, to be called."""

    stack: Stack
    lines: SipWorkers
    calls: "calls_pb2_grpc.CallsAsyncStub"
    lm: "lm_pb2_grpc.VoiceLMAsyncStub"
    store: "redis.Redis"

    @property
    def links(self) -> list[WorkerLink]:
        """To the workers."""
        return [link for _, link in sorted(self.lines.workers.items())]

    async def idle(self, seconds: float = 60.0) -> None:
        """Until no call, lease or model session is left; there must be none soon."""
        end = time.monotonic() + seconds
        while left := await self._left():
            assert time.monotonic() < end, f"left: {left}"
            await asyncio.sleep(0.05)

    async def _left(self) -> list[str]:
        left = []
        if active := (await self.calls.Info(calls_pb2.CallsInfoRequest())).active:
            left.append(f"{active} slots")
        if active := (await self.lm.Info(lm_pb2.VoiceLMInfoRequest())).active:
            left.append(f"{active} LM sessions")
        if live := await self.store.scard(KEYS.live):
            left.append(f"{live} live calls in Redis")
        if calls := sum(len(link.calls) for link in self.links):
            left.append(f"{calls} calls at the workers")
        return left

    async def residue(self, seconds: float = 60.0) -> Residue:
        """What is held, once no call is and it stays the same: tasks of the last call may still be on their way out."""
        end = time.monotonic() + seconds
        held, times = await self._held(), 1
        while times < STEADY or held.objects:
            assert time.monotonic() < end, f"it never stays the same without calls: {held}"
            await asyncio.sleep(0.1)
            before, held = held, await self._held()
            times = times + 1 if held == before else 1
        return held

    async def _held(self) -> Residue:
        gc.collect()
        replies = await asyncio.gather(*(link.ask(Ping()) for link in self.links))
        tasks = [len(asyncio.all_tasks()), *(reply.tasks for reply in replies)]
        pids = [os.getpid(), *(link.pid for link in self.links)]
        open_ = [_descriptors(pid) for pid in pids]
        pooled = len(await self.store.client_list())
        of_pool = (pooled, *(0 for _ in self.links))
        objects = sum(issubclass(type(thing), Call | Speech | RemoteSipLeg) for thing in gc.get_objects())
        return Residue(
            tuple(tasks),
            tuple(len(names) - kept for names, kept in zip(open_, of_pool, strict=True)),
            tuple(
                sum(name.startswith("socket:") for name in names) - kept
                for names, kept in zip(open_, of_pool, strict=True)
            ),
            tuple(len(os.listdir(f"/proc/{pid}/task")) for pid in pids),
            objects,
            pooled,
        )

    def memory_kib(self) -> tuple[int, ...]:
        """Resident memory of the agent and of each worker."""
        gc.collect()
        return tuple(_rss_kib(pid) for pid in (os.getpid(), *(link.pid for link in self.links)))


@contextmanager
def only_new_objects() -> Iterator[None]:
    """`gc` sees only what is made within: to look through all that a run of tests has imported takes seconds."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@asynccontextmanager
async def line(tiny_stack: Stack, personas: Path, workers: int = 2) -> AsyncIterator[Line]:
    """A running agent."""
    calls_port = free_port()
    settings = AgentSettings(
        tokenizer=tiny_stack.tokenizer,
        lm=tiny_stack.lm,
        decoder=tiny_stack.decoder,
        redis_url=tiny_stack.redis_url,
        sip_listen=f"{HOST}:0",
        sip_workers=workers,
        http_listen=f"{HOST}:{free_port()}",
        calls_listen=f"{HOST}:{calls_port}",
        capacity=CAPACITY,
        personas=personas,
    )
    async with AsyncExitStack() as stack:
        stack.enter_context(only_new_objects())
        await start(settings, stack)
        [lines] = [thing for thing in gc.get_objects() if type(thing) is SipWorkers and thing.workers]
        calls = await stack.enter_async_context(grpc.aio.insecure_channel(f"{HOST}:{calls_port}"))
        lm = await stack.enter_async_context(grpc.aio.insecure_channel(tiny_stack.lm))
        store: redis.Redis = redis.Redis.from_url(tiny_stack.redis_url)
        stack.push_async_callback(store.aclose)
        yield Line(tiny_stack, lines, calls_pb2_grpc.CallsStub(calls), lm_pb2_grpc.VoiceLMStub(lm), store)


@dataclass(frozen=True)
class Sample:
    """After so many calls, none of which is left.

    Attributes:
        memory_kib: resident, of the agent and of each worker.
        ways: how often calls ended in which way so far.
    """

    calls: int
    residue: Residue
    memory_kib: tuple[int, ...]
    ways: Counter[str]


async def hang_ups(line: Line, calls: int, seed: int, every: int) -> AsyncIterator[Sample]:
    """Calls one after another, and what is held before them and after each `every` of them.

    Pools (connections to Redis, threads) are filled before the first sample, by as many calls at once as there may be.
    """
    random_ = random.Random(seed)
    ways: Counter[str] = Counter()
    await asyncio.gather(*(call_and_hang_up(line, random_) for _ in range(CAPACITY)))
    await line.idle()
    yield Sample(0, await line.residue(), line.memory_kib(), ways.copy())
    for number in range(1, calls + 1):
        ways[await call_and_hang_up(line, random_)] += 1
        if number % every == 0 or number == calls:
            await line.idle()
            yield Sample(number, await line.residue(), line.memory_kib(), ways.copy())


async def call_and_hang_up(line: Line, random_: random.Random) -> str:
    """One call; returns how it ended.

    The moment counts from the INVITE for those who end it while it rings, and from the answer for the others. Who is
    too late with the former ends a call that is answered.
    """
    way, after_s = random_.choice(WAYS), random_.uniform(0, LONGEST_S)
    async with caller(random_.choice(line.lines.ports)) as wire:
        wire.invite()
        if way == "caller cancels":
            await asyncio.sleep(after_s / 5)  # ringing is short
            wire.request("CANCEL")
        hanging_up = asyncio.create_task(_hang_up(line, wire, after_s / 5)) if way == "agent declines" else None
        final = await wire.response("INVITE", 200, 486, 487, 503, timeout_s=30)
        if final.status != 200:
            wire.send_raw(acknowledgement(final))
        else:
            wire.request("ACK")
            if way == "agent hangs up":
                hanging_up = asyncio.create_task(_hang_up(line, wire, after_s))
            if hanging_up is not None:
                await _talk_until_bye(wire)
            else:
                if way == "caller hangs up":
                    await wire.listen(after_s)
                wire.request("BYE")
                await wire.response("BYE", 200)
        if hanging_up is not None:
            await hanging_up
        return f"{way}, {final.status}"


async def _hang_up(line: Line, wire: Caller, after_s: float) -> None:
    """By the operator, so many seconds from now."""
    await asyncio.sleep(after_s)
    async with asyncio.timeout(30):
        while not (call_id := await _id_of(line, wire)):
            await asyncio.sleep(0.01)
    await line.calls.HangUp(calls_pb2.HangUpRequest(call_id=call_id))


async def _id_of(line: Line, wire: Caller) -> str:
    """Names the call at the agent; empty while it does not know it. An earlier one may still be wound up there."""
    for call in (await line.calls.ListCalls(calls_pb2.ListCallsRequest())).calls:
        if getattr(call, "from").endswith(f":{wire.port}"):
            return str(call.call_id)
    return ""


async def _talk_until_bye(wire: Caller) -> None:
    async with asyncio.timeout(30):
        while True:
            await wire.listen(0.05)
            if any(first.startswith("BYE") for first in wire.requests_so_far()):
                break
    bye = next(message for message in wire.received if not message.status and message.method == "BYE")
    wire.reply(bye, "200 OK")


def _descriptors(pid: int) -> list[str]:
    names = []
    for entry in os.listdir(f"/proc/{pid}/fd"):
        try:
            names.append(os.readlink(f"/proc/{pid}/fd/{entry}"))
        except FileNotFoundError:  # the one of this very listing
            continue
    return names


def _rss_kib(pid: int) -> int:
    for row in Path(f"/proc/{pid}/status").read_text().splitlines():
        if row.startswith("VmRSS:"):
            return int(row.split()[1])
    raise AssertionError("no VmRSS")
