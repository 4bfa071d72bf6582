"""A thousand appends and rewinds of several calls at once, over a Redis that fails now and then."""

import asyncio
import contextlib
import dataclasses
import random
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import grpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.agent.conversation import Answer, Conversation, Entry, replay
from services.agent.events import CallRecord, CallState
from services.agent.legs.base import INPUT_RATE, LegKind
from services.agent.lm_session import LmSession, Sampling
from services.agent.models import ModelServices
from services.agent.state import recorder as recorders_module
from services.agent.state.address import Kind
from services.agent.state.connection import Connection
from services.agent.state.recorder import Recorder, Recorders
from services.agent.state.settings import StateSettings
from services.agent.state.store import Hold, Store
from tests.integration.stack import HOST, Process, Stack, nano_weights
from trunkline.v1 import lm_pb2, lm_pb2_grpc

CALLS = 8
CHANGES = 125  # of each call
LONGEST = 400  # token ids
NEXT_TOKENS = 5
WAIT_S = 120.0


class Failing(Store):
    """Redis behind a bad network: commands are lost, and so are answers; or a failover takes the newest entries."""

    def __init__(self, connection: Connection, chance: random.Random) -> None:
        super().__init__(connection, "agent")
        self._chance = chance
        self.failures = 0
        self._ended: set[str] = set()

    async def hold(self, call: CallRecord, continues: str = "", digest: str = "") -> tuple[Hold, int]:
        async with self._network():
            return await super().hold(call, continues, digest)

    async def append(self, call_id: str, entries: Sequence[tuple[int, Entry]]) -> int:
        async with self._network():
            last = await super().append(call_id, entries)
            if call_id not in self._ended and self._chance.random() < 0.1:
                await self._forget(call_id)
            return last

    async def finish(self, call: CallRecord, *more: Any) -> None:
        """The last failover was before this: the recorder looks once more after it."""
        self._ended.add(call.call_id)
        await super().finish(call, *more)

    @contextlib.asynccontextmanager
    async def _network(self) -> AsyncIterator[None]:
        await asyncio.sleep(self._chance.choice((0.0, 0.001)))
        fate = self._chance.random()
        if fate < 0.1:
            self.failures += 1
            raise ConnectionError("the command was lost")
        yield
        if fate > 0.9:
            self.failures += 1
            raise ConnectionError("the answer was lost")

    async def _forget(self, call_id: str) -> None:
        self.failures += 1
        key = self.redis.keys.conversation(call_id)
        rows = await self.redis.client.xrange(key)
        await self.redis.client.delete(key)
        for number, fields in rows[: -self._chance.randint(1, 3)]:
            await self.redis.client.xadd(key, fields, id=number)


def change(conversation: Conversation, chance: random.Random, turn: int, vocabulary: range) -> Entry | None:
    start = len(conversation.ids)
    ids = [chance.choice(vocabulary) for _ in range(chance.randint(1, 12))]
    if start > LONGEST:
        return conversation.trim(LONGEST // 2, turn)
    match chance.randrange(4):
        case 0:
            return conversation.user(ids, turn)
        case 1:
            return conversation.rewind(chance.randint(min(3, start), start), turn)
        case _:
            answer = Answer(start)
            answer.add(ids, is_speech=True, text="word")
            return conversation.assistant(answer, interrupted=chance.random() < 0.5, turn=turn)


async def talk(recorder: Recorder, call_id: str, chance: random.Random, vocabulary: range) -> Conversation:
    """One call: its record, a prompt, many changes, its end."""
    call = CallRecord(call_id, LegKind.SIP, CallState.LIVE, "", "", "default", 1, 0.0)
    with contextlib.suppress(ConnectionError):
        await recorder.begin(call)
    conversation = Conversation()
    recorder.entry(conversation.system([chance.choice(vocabulary) for _ in range(3)]))
    for turn in range(1, CHANGES):
        entry = change(conversation, chance, turn, vocabulary)
        if entry is not None:
            recorder.entry(entry)
        if chance.random() < 0.3:
            await asyncio.sleep(0)
    recorder.call(call.in_state(CallState.ENDED, "hung up"))
    await asyncio.wait_for(recorder.task, WAIT_S)
    return conversation


async def all_talk(url: str, seed: int, vocabulary: range) -> dict[str, tuple[list[int], list[int]]]:
    """By call: the ids in memory, and those that Redis gives."""
    connection = Connection.from_settings(StateSettings(redis_url=url))
    connection.address = dataclasses.replace(connection.address, kind=Kind.SENTINEL)  # so that failovers are expected
    store = Failing(connection, random.Random(seed))
    recorders = Recorders(store)
    ids = [f"{seed}-{number}" for number in range(CALLS)]
    talking = [
        talk(recorders.of(call_id, "", lambda _: None), call_id, random.Random(call_id), vocabulary) for call_id in ids
    ]
    conversations = await asyncio.gather(*talking)
    found = {}
    for call_id, conversation in zip(ids, conversations, strict=True):
        entries = await store.conversation(call_id)
        found[call_id] = conversation.ids, replay(entries)
        assert Conversation.rebuilt(entries).ids == conversation.ids
    assert store.failures > 0
    await connection.close()
    return found


async def next_tokens(stack: Stack, lm: str, ids: list[int], name: str) -> list[int]:
    """What a language model goes on with after these ids, greedily."""
    models = ModelServices(stack.tokenizer, lm, stack.decoder)
    await models.connect(WAIT_S, INPUT_RATE)
    async with models.reserve(name) as places:
        session = LmSession(places.lm, name)
        await session.open(ids)
        async for _ in session.generate(Sampling(0.0, 1.0, NEXT_TOKENS, seed=1)):
            pass
        generated = session.ids[len(ids) :]
        await session.close()
    await models.close()
    return generated


async def vocabulary_of(address: str) -> range:
    async with grpc.aio.insecure_channel(address) as channel:
        info = await lm_pb2_grpc.VoiceLMStub(channel).Info(lm_pb2.VoiceLMInfoRequest())
    return range(info.vocab_size)


@pytest.fixture(scope="module")
def replica(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Another language model with the same weights."""
    command = [sys.executable, "-m", "services.lm", "--listen", f"{HOST}:0", "--capacity", "2"]
    command += ["--weights", str(nano_weights()["lm"]), "--threads", "1"]
    process = Process("lm", command, tmp_path_factory.mktemp("replica") / "lm.log")
    try:
        yield f"{HOST}:{process.wait_serving()}"
    finally:
        process.stop()


def test_any_replica_rebuilt_from_redis_goes_on_in_the_same_way(
    stack: Stack, replica: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorders_module, "LOOK_AGAIN_S", 0.2)
    vocabulary = asyncio.run(vocabulary_of(stack.lm))

    @settings(max_examples=2, deadline=None, derandomize=True, database=None)
    @given(seed=st.integers(0, 2**32))
    def check(seed: int) -> None:
        found = asyncio.run(all_talk(stack.redis_url, seed, vocabulary))
        for in_memory, in_redis in found.values():
            assert in_redis == in_memory
        last.update(found)

    last: dict[str, tuple[list[int], list[int]]] = {}
    check()
    for call_id, (in_memory, in_redis) in list(last.items())[-4:]:
        expected = asyncio.run(next_tokens(stack, stack.lm, in_memory, call_id))
        assert len(expected) > 0
        assert asyncio.run(next_tokens(stack, replica, in_redis, call_id)) == expected
