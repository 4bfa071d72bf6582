"""Calls of one agent: independent, counted, refused when there is no room, and gone when they are over."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis.asyncio as redis

from services.agent.conversation import Entry, Role, replay
from services.agent.events import CallState
from services.agent.lm_session import LmSession, Sampling
from services.agent.models import ModelServices
from services.agent.state.store import Store
from tests.integration.personas import short_persona
from tests.integration.stack import KEYS, Agent, Stack, free_again, redis_server, running
from tests.integration.webrtc_caller import Waveform, calling, sample

ANSWER_TOKENS = 150


@pytest.fixture(scope="module")
def agent(tiny_stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    personas = short_persona(tmp_path_factory.mktemp("personas"), ANSWER_TOKENS)
    with tiny_stack.agent(capacity=2, personas=personas) as agent:
        yield agent


@pytest.fixture(scope="module")
def question() -> Waveform:
    """A spoken question, 16 kHz."""
    return sample("opening-hours")


async def test_the_greeting_is_heard_within_a_second_of_the_answer(agent: Agent) -> None:
    async with calling(agent.page) as caller:
        await caller.until(lambda: bool(caller.loud_at), "sound")
        # What counts is that the bot is ready when the line is: nothing is generated after the answer.
        started = caller.of_type("bot-started-speaking")
        assert started
        assert caller.of_type("bot-llm-text")[0]["data"]["turn"] == 0


async def test_a_question_is_answered_with_captions_times_and_sound(agent: Agent, question: Waveform) -> None:
    async with calling(agent.page) as caller:
        await caller.bot_is_quiet()
        before = len(caller.loud_at)
        caller.microphone.say(question)
        await caller.until(lambda: len(caller.latencies()) == 1, "the answer's first packet")
        await caller.until(lambda: len(caller.loud_at) > before, "the answer is heard")
        (stages,) = caller.latencies()
        assert list(stages) == sorted(stages, key=lambda stage: stages[stage])
        assert stages["turn_decided"] > 0
        kinds = [message["type"] for message in caller.messages]
        assert kinds.index("user-started-speaking") < kinds.index("user-stopped-speaking")


async def test_two_calls_at_once_have_conversations_of_their_own(
    agent: Agent, tiny_stack: Stack, question: Waveform
) -> None:
    store = tiny_stack.store()
    async with calling(agent.page) as one, calling(agent.page) as other:
        await asyncio.gather(one.bot_is_quiet(), other.bot_is_quiet())
        one.microphone.say(question)
        other.microphone.say(sample("address"))
        await one.until(lambda: len(one.latencies()) == 1, "an answer to one")
        await other.until(lambda: len(other.latencies()) == 1, "an answer to the other")
    entries = [await recorded(store, caller.call_id, 3) for caller in (one, other)]
    users = [next(entry.ids for entry in whole if entry.role is Role.USER) for whole in entries]
    assert users[0] != users[1]
    assert entries[0][0].ids == entries[1][0].ids, "the same persona"
    await store.redis.close()


async def test_a_third_call_is_refused_and_a_later_one_taken(agent: Agent) -> None:
    await free_again(agent)  # callers of other tests have hung up a moment ago
    async with calling(agent.page) as one, calling(agent.page) as other:
        assert one.call_id != other.call_id
        with pytest.raises(httpx.HTTPStatusError) as refusal:
            async with calling(agent.page):
                pass
        response = refusal.value.response
        assert response.status_code == 503
        assert int(response.headers["Retry-After"]) > 0
        assert "all 2 calls are taken" in response.json()["detail"]
        await asyncio.gather(one.bot_is_quiet(), other.bot_is_quiet())
    await free_again(agent)
    async with calling(agent.page) as caller:
        await caller.bot_is_quiet()


async def test_redis_holds_the_exact_tokens_of_a_conversation(
    agent: Agent, tiny_stack: Stack, question: Waveform
) -> None:
    """A session opened from Redis alone continues as the live one did."""
    store = tiny_stack.store()
    async with calling(agent.page) as caller:
        await caller.bot_is_quiet()
        caller.microphone.say(question)
        await caller.until(lambda: len(caller.latencies()) == 1, "an answer")
        await caller.bot_is_quiet()
        entries = await recorded(store, caller.call_id, 4)
    assert [entry.role for entry in entries] == [Role.SYSTEM, Role.ASSISTANT, Role.USER, Role.ASSISTANT]
    answer = entries[-1]
    models = ModelServices(tiny_stack.tokenizer, tiny_stack.lm, tiny_stack.decoder)
    await models.connect(10.0, 16_000)
    async with models.reserve("from-redis") as places:
        session = LmSession(places.lm, "from-redis")
        await session.open(replay(entries[:-1]))
        async for _ in session.generate(Sampling(0.0, 0.8, ANSWER_TOKENS, seed=1)):
            pass
        continued = session.ids[-len(answer.ids) :]
        await session.close()
    assert continued == list(answer.ids)
    await models.close()
    await store.redis.close()


async def test_redis_tells_who_where_and_how_it_ended(agent: Agent, tiny_stack: Stack) -> None:
    client = redis.Redis.from_url(tiny_stack.redis_url, decode_responses=True)
    async with calling(agent.page) as caller:
        await caller.bot_is_quiet()
        key = KEYS.call(caller.call_id)
        call: Any = await client.hgetall(key)
        assert (call["state"], call["leg"], call["to"], call["persona"]) == ("live", "webrtc", "web", "default")
        assert call["from"].startswith("web:")
        assert await client.get(f"{key}:lease") == call["agent"]
        assert caller.call_id in await client.smembers(KEYS.live)
    await free_again(agent)
    call = await client.hgetall(key)
    assert (call["state"], call["reason"]) == ("ended", "the caller hung up")
    assert await client.exists(f"{key}:lease") == 0
    assert caller.call_id not in await client.smembers(KEYS.live)
    assert await client.ttl(KEYS.conversation(caller.call_id)) > 0
    await client.aclose()


async def test_a_lost_redis_does_not_end_a_call(tmp_path: Path, tiny_stack: Stack, question: Waveform) -> None:
    elsewhere = {"tokenizer": tiny_stack.tokenizer, "lm": tiny_stack.lm, "decoder": tiny_stack.decoder}
    with (
        running(tmp_path, {}, elsewhere) as own,
        own.agent(personas=short_persona(tmp_path / "personas", ANSWER_TOKENS)) as lonely,
        own.agent(2, tmp_path / "personas", False, "--redis-away", "admit") as lenient,
    ):
        async with calling(lonely.page) as caller:
            await caller.bot_is_quiet()
            own.processes["redis"].kill()
            caller.microphone.say(question)
            await caller.until(lambda: len(caller.latencies()) == 1, "an answer without Redis")
            with pytest.raises(httpx.HTTPStatusError) as refusal:
                async with calling(lonely.page):
                    pass
            assert refusal.value.response.status_code == 503
            async with httpx.AsyncClient(timeout=30.0) as client:
                ready = await client.get(f"{lonely.page}/readyz")
            assert (ready.status_code, ready.text) == (503, "Redis does not answer")
            async with calling(lenient.page) as admitted:
                await admitted.bot_is_quiet()
                own.processes["redis"] = redis_server(tmp_path, own.redis_port)  # it has forgotten everything
                own.processes["redis"].wait_serving()
                store = own.store()
                said = await recorded(store, caller.call_id, 4)
                assert [entry.role for entry in said[:3]] == [Role.SYSTEM, Role.ASSISTANT, Role.USER]
                for count, entry in enumerate(said, 1):
                    assert len(replay(said[:count])) == entry.length, "none is missing, none is there twice"
                await recorded(store, admitted.call_id, 2)
                for call_id in (caller.call_id, admitted.call_id):
                    end = time.monotonic() + 60.0
                    while (stored := await store.stored(call_id)) is None or not stored.held:
                        assert time.monotonic() < end, "the call and its lease are back"
                        await asyncio.sleep(0.05)
                    assert stored.record.state is CallState.LIVE
                await store.redis.close()


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"not json", 422),
        (b"{}", 422),
        (b'{"sdp": "v=0", "type": "answer"}', 422),
        (b'{"sdp": "v=0", "type": "offer", "more": 1}', 422),
        (b'{"sdp": "hello", "type": "offer"}', 400),
        (b'{"sdp": "v=0\\r\\nm=video 9 UDP 96\\r\\n", "type": "offer"}', 400),
        (b'{"sdp": "v=0\\r\\nm=audio x y z\\r\\n", "type": "offer"}', 400),
    ],
)
def test_bad_offers_are_refused_with_a_reason(agent: Agent, body: bytes, status: int) -> None:
    response = httpx.post(
        f"{agent.page}/api/offer", content=body, headers={"Content-Type": "application/json"}, timeout=60.0
    )
    assert response.status_code == status, response.text
    assert response.json()["detail"]


def test_the_page_and_the_probes(agent: Agent) -> None:
    page = httpx.get(agent.page, timeout=30.0)
    assert page.status_code == 200
    assert "<title>Trunkline" in page.text
    assert httpx.get(f"{agent.page}/healthz", timeout=30.0).text == "ok"
    assert httpx.get(f"{agent.page}/readyz", timeout=30.0).text == "ready"
    assert httpx.get(f"{agent.page}/nothing", timeout=30.0).status_code == 404


async def recorded(store: Store, call_id: str, count: int, seconds: float = 60.0) -> list[Entry]:
    """The conversation, once it has this many entries."""
    end = time.monotonic() + seconds
    while len(entries := await store.conversation(call_id)) < count:
        assert time.monotonic() < end, f"only {[entry.role for entry in entries]}"
        await asyncio.sleep(0.05)
    return entries
