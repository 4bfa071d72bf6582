"""What is kept in Redis, over real servers of every kind: leases, streams, transactions, encryption, failover."""

import asyncio
import base64
import dataclasses
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from services.agent.conversation import Entry, Role, replay
from services.agent.events import CallRecord, CallState
from services.agent.legs.base import LegKind
from services.agent.personas import Persona
from services.agent.state.address import StateError
from services.agent.state.connection import Connection, Unchanged
from services.agent.state.personas import PersonaStore
from services.agent.state.recorder import Recorders
from services.agent.state.sealing import Sealer
from services.agent.state.settings import StateSettings
from services.agent.state.store import Hold, Store
from services.agent.state.times import Times
from tests.integration.personas import short_persona
from tests.integration.redis_servers import Servers, secured, watched
from tests.integration.stack import Stack, free_again
from tests.integration.webrtc_caller import calling, sample

KEY, OTHER_KEY = (f"{name}:{base64.b64encode(name.encode() * 32)[:43].decode()}=" for name in "ab")
WAIT_S = 120.0


@pytest.fixture(scope="module")
def sentinel(tmp_path_factory: pytest.TempPathFactory, require_debian: Callable[..., None]) -> Iterator[Servers]:
    require_debian("redis-server")
    with watched(tmp_path_factory.mktemp("sentinel")) as servers:
        yield servers


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory, require_debian: Callable[..., None]) -> Iterator[Servers]:
    require_debian("redis-server")
    with secured(tmp_path_factory.mktemp("secured")) as servers:
        yield servers


@pytest.fixture(scope="module", params=["tls", "sentinel", "cluster"])
def servers(request: pytest.FixtureRequest) -> Servers:
    found: Servers = request.getfixturevalue(request.param)
    return found


def connection(servers: Servers, **more: Any) -> Connection:
    return Connection.from_settings(StateSettings.model_validate({**servers.settings, **more}))


@pytest_asyncio.fixture
async def redis(servers: Servers) -> Any:
    made = connection(servers)
    await made.connect()
    yield made
    await made.close()


def record(call_id: str, state: CallState = CallState.LIVE) -> CallRecord:
    return CallRecord(call_id, LegKind.SIP, state, "sip:ann@example.org", "sip:shop", "default", 3, 5.5)


def spoken(*ids: int, text: str = "") -> Entry:
    return Entry(Role.USER, ids, 0, text, turn=1)


async def until(condition: Callable[[], Awaitable[bool]], what: str) -> None:
    end = time.monotonic() + WAIT_S
    while not await condition():
        assert time.monotonic() < end, what
        await asyncio.sleep(0.02)


async def test_a_call_from_its_beginning_to_its_end(redis: Connection) -> None:
    store = Store(redis, "one", times=Times(lease_s=60, keep_s=100, resume_s=50))
    call = record("whole")
    assert await store.hold(call, "earlier", "digest") == (Hold.HELD, 0)
    assert await store.resume_digest("whole") == "digest"
    stored = await store.stored("whole")
    assert stored is not None
    assert (stored.record, stored.agent, stored.held, stored.ended) == (call, "one", True, 0)
    assert (stored.continues, stored.continued_by) == ("earlier", "")
    assert await store.append("whole", [(1, spoken(1)), (2, spoken(2))]) == 2
    assert await store.hold(call) == (Hold.HELD, 2)
    assert not await store.bury("whole"), "its lease runs"
    assert not await store.claim("whole", "next"), "it has not ended"
    ended = dataclasses.replace(call, state=CallState.ENDED, end_reason="hung up")
    for _ in range(2):
        await store.finish(ended)
    stored = await store.stored("whole")
    assert stored is not None
    assert (stored.record, stored.held) == (ended, False)
    assert stored.ended > 0
    assert await store.resume_digest("whole") is None
    assert not await redis.client.sismember(redis.keys.live, "whole")
    for key in (redis.keys.call("whole"), redis.keys.conversation("whole")):
        assert 0 < await redis.client.ttl(key) <= 100
    assert not await store.bury("whole")


async def test_a_lost_call_can_be_taken_back_or_gone_on_with_once(redis: Connection) -> None:
    store = Store(redis, "one", times=Times(lease_s=60))
    call = record("lost")
    await store.hold(call, digest="digest")
    await redis.client.delete(redis.keys.lease("lost"))
    assert await store.bury_lost() == ["lost"]
    lost = await store.stored("lost")
    assert lost is not None
    assert (lost.record.state, lost.record.end_reason) == (CallState.ENDED, "its agent was lost")
    assert await redis.client.ttl(redis.keys.call("lost")) > 0

    assert await store.hold(call) == (Hold.HELD, 0), "the agent lives after all"
    back = await store.stored("lost")
    assert back is not None
    assert (back.record, back.held, back.ended) == (call, True, 0)
    assert await redis.client.ttl(redis.keys.call("lost")) == -1
    assert await redis.client.ttl(redis.keys.resume("lost")) == -1
    assert await redis.client.sismember(redis.keys.live, "lost")

    await redis.client.delete(redis.keys.lease("lost"))
    assert await store.bury("lost")
    assert [await store.claim("lost", name) for name in ("next", "another", "next")] == [True, False, True]
    assert (await store.hold(call))[0] is Hold.MOVED
    await store.unclaim("lost", "another")
    assert not await store.claim("lost", "another")
    await store.unclaim("lost", "next")
    assert await store.claim("lost", "another")


async def test_a_call_that_is_wanted_elsewhere_is_told_so(redis: Connection) -> None:
    store = Store(redis, "one")
    call = record("wanted")
    await store.hold(call)
    await Store(redis, "two").want("wanted")
    assert (await store.hold(call))[0] is Hold.WANTED
    await store.finish(call.in_state(CallState.ENDED, "moved"), resumable=True)
    await store.want("wanted")
    assert not await redis.client.hexists(redis.keys.call("wanted"), "wanted_by")


async def test_entries_are_added_once_and_in_order(redis: Connection) -> None:
    store = Store(redis, "one")
    entries = [(number, spoken(number, text=f"word {number}")) for number in range(1, 7)]
    assert await store.append("order", entries[:3]) == 3
    assert await store.append("order", entries[:3]) == 3, "a lost answer"
    assert await store.append("order", entries[4:]) == 3, "number 4 is missing"
    assert await store.append("order", entries[1:]) == 6
    assert await store.conversation("order") == [entry for _, entry in entries]
    reset = Entry(Role.RESET, (9, 9), 2)
    assert await store.append("order", [(10, reset), (11, spoken(4))]) == 11, "stands for what is missing"
    assert await store.conversation("order") == [*(entry for _, entry in entries), reset, spoken(4)]


async def test_many_write_one_stream_and_none_doubles(redis: Connection) -> None:
    """Retries that overtake each other, as after a time-out whose command was carried out after all."""
    store = Store(redis, "one")
    entries = [(number, spoken(number)) for number in range(1, 41)]
    for start in range(0, 40, 10):
        await asyncio.gather(*(store.append("many", entries[: start + 10 - back]) for back in range(10)))
    assert await store.conversation("many") == [entry for _, entry in entries]


async def test_what_was_heard_counts_until_the_next_entry(redis: Connection) -> None:
    store = Store(redis, "one")
    await store.append("heard", [(1, spoken(1))])
    heard = Entry(Role.ASSISTANT, (2, 3), 3, "Good", interrupted=True, turn=1)
    await store.heard("heard", 1, Entry(Role.ASSISTANT, (2,), 2, "", interrupted=True, turn=1))
    await store.heard("heard", 1, heard)
    assert await store.past("heard") == [spoken(1), heard]
    whole = Entry(Role.ASSISTANT, (2, 3, 4), 4, "Good day", turn=1)
    await store.append("heard", [(2, whole)])
    assert await store.past("heard") == [spoken(1), whole]


async def test_versions_of_a_persona_are_counted_by_many_at_once(redis: Connection) -> None:
    personas = PersonaStore(redis)
    written = [Persona(name="race", prompt=f"prompt {number}") for number in range(8)]
    versions = await asyncio.gather(*(personas.save(persona) for persona in written))
    assert sorted(versions) == list(range(1, 9))
    for version, persona in zip(versions, written, strict=True):
        assert await personas.load("race", version) == persona
    assert await personas.save(await personas.load("race", 8)) == 8
    with pytest.raises(StateError, match="no version 9 of persona 'race'"):
        await personas.load("race", 9)


async def test_a_commit_does_all_or_nothing(redis: Connection) -> None:
    keys = redis.keys
    one, other = keys.persona("one"), keys.persona("other")
    assert await redis.commit(
        [("HSET", one, "version", 1), ("HSET", other, "x", "ä\r\n")], Unchanged(one, "version", None)
    )
    assert not await redis.commit([("HSET", other, "x", "no")], Unchanged(one, "version", None))
    assert not await redis.commit([("HSET", other, "x", "no")], Unchanged(one, "version", ""))
    assert await redis.client.hgetall(other) == {"x": "ä\r\n"}
    assert await redis.commit([("DEL", one), ("DEL", other)], Unchanged(one, "version", "1"))
    assert await redis.client.exists(one) + await redis.client.exists(other) == 0


async def test_nothing_personal_is_readable_with_a_key(redis: Connection) -> None:
    store = Store(redis, "one", Sealer.parse(KEY))
    call = record("sealed")
    entry = Entry(Role.ASSISTANT, (151_000, 7), 2, "The secret is 42.", turn=1)
    await store.hold(call)
    await store.append("sealed", [(1, entry)])
    await store.heard("sealed", 1, entry)
    raw = [await redis.client.hgetall(redis.keys.call("sealed")), await redis.client.get(redis.keys.heard("sealed"))]
    raw.append(await redis.client.xrange(redis.keys.conversation("sealed")))
    for personal in ("ann@", "sip:shop", "151000", "secret"):
        assert personal not in str(raw)
    rotated = Store(redis, "two", Sealer.parse(f"{OTHER_KEY},{KEY}"))
    assert await rotated.call("sealed") == call
    assert await rotated.past("sealed") == [entry, entry]
    await rotated.append("sealed", [(2, entry)])
    with pytest.raises(StateError, match="state key 'b', which is not listed"):
        await store.conversation("sealed")
    with pytest.raises(StateError, match=r"state key 'a', which is not listed \(listed: none\)"):
        await Store(redis, "three").call("sealed")
    [(_, fields), *_] = await redis.client.xrange(redis.keys.conversation("sealed"))
    await redis.client.xadd(redis.keys.conversation("elsewhere"), fields, id="1-0")
    with pytest.raises(StateError, match="does not open a record"):
        await store.conversation("elsewhere")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"redis_password_file": None, "redis_password": "wrong"}, "invalid username-password pair"),
        ({"redis_tls_ca": None}, "certificate verify failed"),
        ({"redis_prefix": "other:"}, "No permissions|no permissions"),
    ],
)
async def test_a_refusal_is_told_in_one_line(tls: Servers, change: dict[str, Any], reason: str) -> None:
    refused = connection(tls, **change)
    with pytest.raises(StateError, match=reason) as raised:
        await refused.connect()
    assert "\n" not in str(raised.value)
    assert str(tls.settings["redis_url"]).split("@")[1] in str(raised.value)
    await refused.close()


@pytest.mark.parametrize("setting", ["redis_password_file", "redis_tls_ca", "redis_tls_certificate"])
def test_files_that_are_not_there_are_named(tls: Servers, tmp_path: Path, setting: str) -> None:
    with pytest.raises(StateError, match="missing"):
        connection(tls, **{setting: tmp_path / "missing"})


async def test_nothing_is_lost_or_doubled_when_the_primary_dies(
    sentinel: Servers, tiny_stack: Stack, tmp_path: Path
) -> None:
    """Calls of recorders alone, and one that is talked in, over the death of the primary and until all is back."""
    personas = short_persona(tmp_path / "personas")
    watched_stack = dataclasses.replace(tiny_stack, redis_url=sentinel.settings["redis_url"])
    redis = connection(sentinel)
    store = Store(redis, "one", times=Times(lease_s=2))
    recorders = Recorders(store)
    calls = {f"call-{number}": recorders.of(f"call-{number}", "", lambda _: None) for number in range(5)}
    expected: dict[str, list[Entry]] = {call_id: [] for call_id in calls}

    def write(count: int) -> None:
        for _ in range(count):
            for call_id, recorder in calls.items():
                expected[call_id].append(spoken(len(expected[call_id])))
                recorder.entry(expected[call_id][-1])

    async def complete() -> bool:
        return all([await store.conversation(call_id) == said for call_id, said in expected.items()])

    with watched_stack.agent(personas=personas) as agent:
        async with calling(agent.page) as caller:
            for call_id, recorder in calls.items():
                await recorder.begin(record(call_id))
            write(20)
            await until(complete, "entries before the failover")
            await caller.bot_is_quiet()
            write(20)
            sentinel.processes["primary"].kill()
            caller.microphone.say(sample("address"))
            write(1)
            end = time.monotonic() + WAIT_S
            while not await redis.reachable():
                assert time.monotonic() < end, "no failover"
                write(1)
                await asyncio.sleep(0.02)
            write(20)
            await until(complete, "entries after the failover")
            await caller.until(lambda: len(caller.latencies()) == 1, "an answer")

            async def heard() -> bool:
                return [entry.role for entry in await store.conversation(caller.call_id)].count(Role.ASSISTANT) == 2

            await until(heard, "the answer in Redis")
        await free_again(agent)
    said = await store.conversation(caller.call_id)
    assert [entry.role for entry in said[:3]] == [Role.SYSTEM, Role.ASSISTANT, Role.USER]
    assert said[1].text.strip() == "Hello."
    for count, entry in enumerate(said, 1):
        assert len(replay(said[:count])) == entry.length, "none is missing, none is there twice"
    for call_id, recorder in calls.items():
        recorder.call(record(call_id, CallState.ENDED))
    await asyncio.gather(*(recorders.ended(recorder, call_id, WAIT_S) for call_id, recorder in calls.items()))
    assert await complete()
    assert not {*calls, caller.call_id} & await redis.client.smembers(redis.keys.live)
    await recorders.close(1.0)
    await redis.close()
