"""Callers who come back: to a call whose agent died, stopped, or lives elsewhere; from pages and by phone."""

import asyncio
import base64
import contextlib
import dataclasses
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import Browser, async_playwright

from services.agent.conversation import Entry, Role, replay
from services.agent.events import CallState
from services.agent.state.connection import Connection
from services.agent.state.settings import StateSettings
from services.agent.state.store import Store, StoredCall
from tests.integration.balancer import balancing
from tests.integration.chromium import CHROMIUM, FLAGS
from tests.integration.personas import short_persona
from tests.integration.phone import phone
from tests.integration.redis_servers import Servers, secured
from tests.integration.sip_bots import until
from tests.integration.stack import Agent, Stack, free_again
from tests.integration.test_agent_workers import LISTENS
from tests.integration.webrtc_caller import WAIT_S, Caller, Waveform, calling, sample

SAY = "Again."
LEASE_S = 2
Start = Callable[..., contextlib.AbstractContextManager[Agent]]
ANSWER_TOKENS = 150  # seconds of speech: it is interrupted by its agent's death


@pytest.fixture(scope="module")
def personas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = short_persona(tmp_path_factory.mktemp("personas"), ANSWER_TOKENS)
    with (directory / "default.yaml").open("a") as file:
        file.write(f"resume:\n  say: {SAY}\n")
    return directory


@pytest.fixture(scope="module")
def start(tiny_stack: Stack, cluster: Servers, personas: Path) -> Start:
    over_cluster = dataclasses.replace(tiny_stack, redis_url=cluster.settings["redis_url"])
    more = ["--lease-seconds", str(LEASE_S)]
    return lambda ends=0: over_cluster.agent(2, personas, False, *more, ends=ends)


@pytest.fixture(scope="module")
def other(start: Start) -> Iterator[Agent]:
    with start() as agent:
        yield agent


@pytest_asyncio.fixture
async def store(cluster: Servers) -> AsyncIterator[Store]:
    redis = Connection.from_settings(StateSettings.model_validate(cluster.settings))
    yield Store(redis, "test")
    await redis.close()


@pytest.fixture(scope="module")
def question() -> Waveform:
    return sample("address")


async def go_on_at(caller: Caller, agent: Agent) -> None:
    """As a page does: tries again until it is let in."""
    caller.page = agent.page
    end = time.monotonic() + WAIT_S
    while (refusal := await refused(caller)) is not None:
        assert refusal.status_code == 503, refusal.text
        assert refusal.headers["Retry-After"]
        assert time.monotonic() < end, refusal.text
        await caller.vanish()
        await asyncio.sleep(0.2)


async def refused(caller: Caller) -> httpx.Response | None:
    try:
        await caller.come_back()
    except httpx.HTTPStatusError as error:
        return error.response
    return None


async def ended(store: Store, call_id: str) -> StoredCall:
    end = time.monotonic() + WAIT_S
    while True:
        stored = await store.stored(call_id)
        assert stored is not None
        if stored.record.state is CallState.ENDED:
            return stored
        assert time.monotonic() < end, "the call has not ended"
        await asyncio.sleep(0.05)


async def until_entries(store: Store, call_id: str, are: Callable[[list[Entry]], bool], what: str) -> list[Entry]:
    """The conversation, once it is as wanted; what was heard of an answer under way is its last entry."""
    end = time.monotonic() + WAIT_S
    while not are(entries := await store.past(call_id)):
        assert time.monotonic() < end, f"{what}: only {[entry.role for entry in entries]}"
        await asyncio.sleep(0.05)
    return entries


def whole(said: list[Entry], count: int) -> bool:
    """So many entries, and none of them is still being spoken."""
    return len(said) >= count and not said[-1].interrupted


async def new_call(store: Store, *known: str) -> str:
    """The live call beside those known."""
    end = time.monotonic() + WAIT_S
    while not (new := (await store.redis.client.smembers(store.redis.keys.live)) - set(known)):
        assert time.monotonic() < end, "no new call"
        await asyncio.sleep(0.05)
    [call_id] = new
    return str(call_id)


@contextlib.asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """With a microphone that beeps now and then."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        await browser.close()


async def test_a_page_goes_on_at_another_agent_when_its_own_is_killed(
    start: Start, other: Agent, store: Store, question: Waveform, require_debian: Callable[..., None]
) -> None:
    """A caller of our own, whose conversation is looked at, and a browser behind a load balancer."""
    require_debian("chromium")
    with start(ends=-signal.SIGKILL) as doomed:
        async with calling(doomed.page) as caller, balancing(doomed.http_port) as balancer, chromium() as browser:
            page = await browser.new_page()
            page.set_default_timeout(WAIT_S * 1000)
            await page.goto(balancer.page)
            await page.click("#call")
            await page.locator("#captions li >> text=Hello.").wait_for()
            await page.locator("#call[data-state=live]").wait_for()
            kept = await page.evaluate("sessionStorage.getItem('trunkline-call')")
            await caller.bot_is_quiet()
            first, secret = caller.call_id, caller.secret
            caller.microphone.say(question)
            await until_entries(store, first, lambda said: said[-1].interrupted, "a piece of the answer")
            doomed.process.kill()
            balancer.target = other.http_port
            past = await store.past(first)
            assert past[-1].interrupted
            assert [entry.role for entry in past[-2:]] == [Role.USER, Role.ASSISTANT]
            await caller.vanish()
            caller.messages.clear()
            await go_on_at(caller, other)
            assert caller.call_id != first
            assert caller.secret != secret
            lost = await ended(store, first)
            assert (lost.record.end_reason, lost.continued_by) == ("its agent was lost", caller.call_id)
            new = await store.stored(caller.call_id)
            assert new is not None
            assert (new.continues, new.record.persona_version) == (first, lost.record.persona_version)
            assert not await store.redis.client.sismember(store.redis.keys.live, first)

            await caller.until(lambda: SAY in caller.captions(), "the sentence of its persona")
            assert "Hello." not in caller.captions(), "no second greeting"
            [resumed] = [m for m in caller.of_type("server-message") if m["data"]["type"] == "resumed"]
            assert resumed["data"]["captions"][0]["text"] == "Hello."
            await caller.bot_is_quiet()
            caller.microphone.say(question)
            wanted = len(past) + 2
            entries = await until_entries(store, caller.call_id, lambda said: len(said) >= wanted, "another turn")
            assert entries[: len(past)] == past, "it goes on from what was stored"
            sentence, turn = entries[len(past) : wanted]
            assert sentence.text.strip() == SAY
            assert sentence.length == len(replay(past)) + len(sentence.ids)
            assert (turn.role, turn.turn) == (Role.USER, past[-1].turn + 1)

            again = Caller(other.page)  # it has only the first secret: the answer with the second one was lost
            again.secret = secret
            call_id = caller.call_id
            await again.come_back()
            assert again.call_id == call_id
            assert again.secret not in (secret, caller.secret)
            caller.secret = again.secret
            await again.hang_up()

            await page.locator(f"#captions li >> text={SAY}").wait_for()
            await page.locator("#call[data-state=live]").wait_for()
            assert (await page.locator("#captions li").all_inner_texts())[0] == "Hello."
            assert await page.evaluate("sessionStorage.getItem('trunkline-call')") not in ("", None, kept)
            await page.click("#call")
            await page.locator("text=The call has ended.").wait_for()
    await free_again(other)


async def test_a_page_that_reaches_another_agent_takes_its_call_along(start: Start, other: Agent, store: Store) -> None:
    """From one that lives, and from one that is told to stop."""
    with start() as left:
        async with calling(left.page) as moving, calling(left.page) as staying:
            await moving.bot_is_quiet()
            await staying.bot_is_quiet()
            first = moving.call_id
            await moving.vanish()
            await go_on_at(moving, other)
            moved = await ended(store, first)
            assert (moved.record.end_reason, moved.continued_by) == ("continued at another agent", moving.call_id)
            entries = await store.conversation(moving.call_id)
            assert [entry.role for entry in entries[:2]] == [Role.SYSTEM, Role.ASSISTANT]
            assert entries[1].text.strip() == "Hello."

            first = staying.call_id
            left.process.stop()
            await asyncio.wait_for(staying.closed.wait(), WAIT_S)
            await staying.vanish()
            await go_on_at(staying, other)
            over = await ended(store, first)
            assert (over.record.end_reason, over.continued_by) == ("the agent stopped", staying.call_id)
    await free_again(other)
    refusal = await refused(staying)
    assert refusal is not None
    assert refusal.status_code == 404, "who hung up has no call any more"
    await staying.vanish()


async def test_who_rings_again_after_a_cut_call_goes_on(
    tiny_stack: Stack, tmp_path: Path, personas: Path, require_debian: Callable[..., None]
) -> None:
    """By phone, when a SIP worker died; over TLS, with an ACL user and with all that is personal encrypted."""
    require_debian("baresip", "redis-server")
    keys = tmp_path / "keys"
    keys.write_text("first:" + base64.b64encode(bytes(range(32))).decode())
    with secured(tmp_path / "redis") as servers:
        over_tls = dataclasses.replace(tiny_stack, redis_url=servers.settings.pop("redis_url"))
        more = [*servers.arguments, "--state-keys-file", str(keys)]
        settings = StateSettings.model_validate(
            {"redis_url": over_tls.redis_url, "state_keys_file": keys, **servers.settings}
        )
        redis = Connection.from_settings(settings)
        store = Store(redis, "test", settings.sealer())
        with over_tls.agent(2, personas, True, *more) as agent:
            async with phone(tmp_path / "phone", "ann") as ann:
                await ann.call(agent.sip_uri)
                first = await new_call(store)
                await until_entries(store, first, lambda said: whole(said, 2), "the greeting")
                [(_, _, worker)] = LISTENS.findall(agent.process.log.read_text())
                os.kill(int(worker), signal.SIGKILL)
                assert (await ended(store, first)).record.end_reason == "SIP worker died"
                await until(lambda: "a SIP worker is back" in agent.process.log.read_text(), WAIT_S)
                await ann.hang_up()
                await ann.wait_for("CALL_CLOSED")
                await ann.call(agent.sip_uri)
                second = await new_call(store, first)
                past = await store.past(first)
                said = await until_entries(store, second, lambda said: whole(said, len(past) + 1), "the sentence")
                assert said[: len(past)] == past
                assert said[len(past)].text.strip() == SAY
                stored = await store.stored(second)
                assert stored is not None
                assert stored.continues == first
                await ann.hang_up()
                await ann.wait_for("CALL_CLOSED")
                assert (await ended(store, second)).record.end_reason == "caller hung up"
                await ann.call(agent.sip_uri)
                third = await new_call(store, first, second)
                said = await until_entries(store, third, lambda said: whole(said, 2), "the greeting")
                assert said[1].text.strip() == "Hello.", "who hung up begins anew"
                raw = [await redis.client.hgetall(redis.keys.call(third))]
                raw.append(await redis.client.xrange(redis.keys.conversation(third)))
                assert "Hello" not in str(raw)
                assert "ann@" not in str(raw)
                await ann.hang_up()
                await ended(store, third)
        await redis.close()
