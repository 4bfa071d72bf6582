"""What a supervisor sees and hears of real calls: on all agents, over WebRTC, SIP and a carrier's websocket."""

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from services.agent.api.keys import Role
from tests.integration import carrier_caller
from tests.integration.api import WAIT_S, Client, Keys, logged
from tests.integration.ear import RATE, Ear, listening, loud_s, tone_s
from tests.integration.phone import RATE as PHONE_RATE
from tests.integration.phone import phone
from tests.integration.sip_bots import tone
from tests.integration.stack import HOST, Agent, Stack, free_again
from tests.integration.webrtc_caller import calling

PERSONA = """\
name: default
prompt: Be brief.
greeting: Hello.
temperature: 0
max_new_tokens: 60
supervision:
  listen: true
"""
HERTZ = 440


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return Keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def agents(tiny_stack: Stack, keys: Keys, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Agent, Agent]]:
    """Two agents over one Redis; callers ring the first. The second one's persona lets nobody listen in."""
    open_, closed = tmp_path_factory.mktemp("open"), tmp_path_factory.mktemp("closed")
    (open_ / "default.yaml").write_text(PERSONA)
    (closed / "default.yaml").write_text(PERSONA.partition("supervision")[0])
    common = ["--redis-prefix", "supervision:", "--api-keys-file", str(keys.file), "--api-rate", ""]
    common += ["--public-url", carrier_caller.PUBLIC_URL]
    with pytest.MonkeyPatch.context() as patch:
        for name, value in carrier_caller.ENVIRONMENT.items():
            patch.setenv(name, value)
        first = ["--agent-id", "first"]
        with (
            tiny_stack.agent(2, open_, True, *common, *first) as one,
            tiny_stack.agent(2, closed, False, *common, "--agent-id", "second") as other,
        ):
            yield one, other


async def until(condition: Callable[[], bool], what: str) -> None:
    """Looks now and then: to look through all that was heard takes its time, and callers run in this process too."""
    end = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < end, what
        await asyncio.sleep(0.3)


async def hears_both(ear: Ear, operator: Client, call_id: str, play: Callable[[], Any]) -> None:
    """What the bot says is found right and nowhere else, the caller's tone left and nowhere else."""
    already = loud_s(ear.heard()[1])
    await operator.ask("POST", f"/calls/{call_id}/say", 204, json={"text": "We close in ten minutes."})
    await until(lambda: loud_s(ear.heard()[1]) > already + 0.5, "the bot is heard")
    assert loud_s(ear.heard()[0]) == 0, "the caller has said nothing yet"
    await until(lambda: loud_s(ear.heard()[1][-RATE:]) == 0, "the bot has ended")
    begin = len(ear.heard()[1])
    started = play()
    if started is not None:
        await started
    await until(lambda: tone_s(ear.heard()[0][begin:], HERTZ) >= 1.0, "the caller's tone is heard")
    assert tone_s(ear.heard()[1][begin:], HERTZ) == 0, "in their channel alone"


async def the_call(viewer: Client) -> dict[str, Any]:
    """The only one, once it is answered: a caller knows of that before the agent has its media."""
    end = time.monotonic() + WAIT_S
    while True:
        calls: list[dict[str, Any]] = (await viewer.ask("GET", "/calls", 200)).json()["calls"]
        if [call["state"] for call in calls] == ["live"]:
            return calls[0]
        assert time.monotonic() < end, calls
        await asyncio.sleep(0.05)


async def listeners(viewer: Client, call_id: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await viewer.ask("GET", f"/calls/{call_id}/listeners", 200)).json()["listeners"]
    return found


async def all_gone(viewer: Client, call_id: str, count: int) -> None:
    end = time.monotonic() + WAIT_S
    while True:
        found = await listeners(viewer, call_id)
        if len(found) == count and all(one["ended"] is not None for one in found):
            assert {(one["who"], one["agent"]) for one in found} == {("operator", "first")}
            return
        assert time.monotonic() < end, found
        await asyncio.sleep(0.1)


def deaf_listener(agent: Agent, keys: Keys, call_id: str) -> socket.socket:
    """Asks for the audio and never reads any."""
    line = socket.socket()
    line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    line.connect((HOST, agent.http_port))
    head = [f"GET /api/v1/calls/{call_id}/audio HTTP/1.1", f"Host: {HOST}"]
    head += [f"{name}: {value}" for name, value in keys.headers(Role.OPERATOR).items()]
    line.sendall("\r\n".join([*head, "", ""]).encode())
    return line


async def test_a_page_s_call_is_listened_to_by_several(agents: tuple[Agent, Agent], keys: Keys) -> None:
    one, _ = agents
    async with (
        Client(one, keys, Role.VIEWER) as viewer,
        Client(one, keys, Role.OPERATOR) as operator,
        calling(one.page) as caller,
    ):
        await caller.bot_is_quiet()
        call_id = caller.call_id
        await viewer.ask("GET", f"/calls/{call_id}/audio", 403)
        await operator.ask("GET", "/calls/none/audio", 404)
        with deaf_listener(one, keys, call_id):
            async with listening(one, keys, call_id) as ear, listening(one, keys, call_id) as second:
                assert ear.type == "audio/L16;rate=16000;channels=2"
                with_tone = 0.25 * np.sin(2 * np.pi * HERTZ * np.arange(60 * RATE) / RATE).astype(np.float32)
                await hears_both(ear, operator, call_id, lambda: caller.microphone.say(with_tone))
                await until(lambda: tone_s(second.heard()[0], HERTZ) >= 1.0, "the second hears it too")
                assert {one["ended"] for one in await listeners(viewer, call_id)} == {None}
                await operator.ask("DELETE", f"/calls/{call_id}", 204)
                async with asyncio.timeout(WAIT_S):
                    await asyncio.gather(ear.over, second.over)
            await all_gone(viewer, call_id, 3)
        await operator.ask("GET", f"/calls/{call_id}/audio", 404)
    await logged(one, f"somebody listens in call_id={call_id} key=operator", 3)
    await free_again(one)


async def test_a_phone_call_is_listened_to_and_its_quality_is_told(
    agents: tuple[Agent, Agent], keys: Keys, tmp_path: Path, require_debian: Callable[..., None]
) -> None:
    require_debian("baresip")
    one, _ = agents
    async with (
        Client(one, keys, Role.OPERATOR) as operator,
        phone(tmp_path) as handset,
    ):
        await handset.call(one.sip_uri)
        call = await the_call(operator)
        assert (call["leg"], call["agent"], call["here"], call["may_listen"]) == ("sip", "first", True, True)
        async with listening(one, keys, call["call_id"]) as ear:
            await hears_both(ear, operator, call["call_id"], lambda: handset.play(tone(HERTZ, 60, PHONE_RATE)))
            async with contextlib.aclosing(operator.events(call["call_id"])) as events:
                quality = await anext(event async for name, event in events if name == "Quality" and event["received"])
            assert quality["received"]["packets"] > 0
            assert quality["sent"]["packets"] > 0
            assert 1 <= quality["received"]["mos"] <= 4.5
        await handset.hang_up()
        await all_gone(operator, call["call_id"], 1)
    await free_again(one)


async def test_a_carrier_s_call_is_listened_to(agents: tuple[Agent, Agent], keys: Keys) -> None:
    one, _ = agents
    async with Client(one, keys, Role.OPERATOR) as operator, carrier_caller.calling(one, "twilio") as line:
        call = await the_call(operator)
        async with listening(one, keys, call["call_id"]) as ear:
            await hears_both(ear, operator, call["call_id"], lambda: line.play(tone(HERTZ, 60, PHONE_RATE)))
    await free_again(one)


async def test_every_agent_s_calls_are_seen_and_changed_at_their_own(agents: tuple[Agent, Agent], keys: Keys) -> None:
    one, other = agents
    async with (
        Client(other, keys, Role.VIEWER) as viewer,
        Client(other, keys, Role.OPERATOR) as operator,
        calling(one.page) as theirs,
        calling(other.page) as ours,
    ):
        await theirs.bot_is_quiet()
        await ours.bot_is_quiet()
        assert (await viewer.ask("GET", "/me", 200)).json() == {"name": "viewer", "role": "viewer"}
        mine = (await viewer.ask("GET", "/calls", 200)).json()["calls"]
        assert [call["call_id"] for call in mine] == [ours.call_id]
        everyones = (await viewer.ask("GET", "/calls", 200, params={"scope": "all"})).json()
        assert everyones["agent_id"] == "second"
        assert {call["call_id"]: (call["agent"], call["here"], call["state"]) for call in everyones["calls"]} == {
            theirs.call_id: ("first", False, "live"),
            ours.call_id: ("second", True, "live"),
        }
        await viewer.ask("GET", "/calls", 422, params={"scope": "none"})
        call = f"/calls/{theirs.call_id}"
        seen = (await viewer.ask("GET", call, 200)).json()
        assert (seen["agent"], seen["here"]) == ("first", False)
        for method, path, body in (
            ("DELETE", call, None),
            ("POST", f"{call}/say", {"text": "Hello."}),
            ("POST", f"{call}/transfer", {"target": "100"}),
            ("POST", f"{call}/dtmf", {"digits": "1"}),
            ("GET", f"{call}/audio", None),
            ("GET", f"/events?call_id={theirs.call_id}", None),
        ):
            told = (await operator.ask(method, path, 409, json=body)).json()
            assert (told["agent"], told["address"]) == ("first", one.page), told
        refused = await operator.ask("GET", f"/calls/{ours.call_id}/audio", 403)
        assert "supervision.listen" in refused.json()["detail"]
        there = (await viewer.ask("GET", "/replicas", 200)).json()
        assert {(agent["agent_id"], agent["here"], agent["address"]) for agent in there["agents"]} == {
            ("first", False, one.page),
            ("second", True, other.page),
        }
        assert {(model["service"], model["state"], model["serving"]) for model in there["models"]} == {
            (service, "serving", True) for service in ("tokenizer", "lm", "decoder")
        }
        assert [model["held"] for model in there["models"]] == [1, 1, 1], "by this agent's call"
        assert all(model["capacity"] == 4 and model["revision"] for model in there["models"])
    await free_again(one)
    await free_again(other)


async def sent_events(response: httpx.Response) -> AsyncIterator[tuple[str, str, dict[str, Any]]]:
    """Id, name and content of each event."""
    fields: dict[str, str] = {}
    async for line in response.aiter_lines():
        if line:
            name, _, value = line.partition(":")
            fields[name] = value.strip()
        elif "data" in fields:
            yield fields.get("id", ""), fields["event"], json.loads(fields["data"])
            fields = {}


async def test_captions_as_heard_and_events_for_those_who_come_back(agents: tuple[Agent, Agent], keys: Keys) -> None:
    one, _ = agents
    url, headers = f"{one.page}/api/v1/events", keys.headers(Role.OPERATOR)
    async with (
        Client(one, keys, Role.OPERATOR) as operator,
        httpx.AsyncClient(headers=headers, timeout=WAIT_S) as http,
        calling(one.page) as caller,
    ):
        await caller.bot_is_quiet()
        call_id = caller.call_id
        spoken: list[dict[str, Any]] = []
        async with http.stream("GET", url, params={"call_id": call_id}) as response:
            events = sent_events(response)
            assert (await anext(events))[1] == "call"
            await operator.ask("POST", f"/calls/{call_id}/say", 204, json={"text": "We close in ten minutes."})
            while not (spoken and spoken[-1]["done"]):
                _, name, event = await anext(events)
                spoken += [event] if name == "Spoken" else []
        assert (spoken[-1]["text"], spoken[-1]["interrupted"]) == ("We close in ten minutes.", False)
        assert {event["answer"] for event in spoken} == {2}, "the greeting was the first"
        assert all(spoken[-1]["text"].startswith(event["text"]) for event in spoken)
        await operator.ask("POST", f"/calls/{call_id}/transfer", 409, json={"target": "100"})
        seen: list[tuple[str, str, dict[str, Any]]] = []
        async with http.stream("GET", url, params={"call_id": call_id, "recent": "true"}) as response:
            events = sent_events(response)
            while not (seen and seen[-1][1:2] == ("Transfer",) and seen[-1][2]["outcome"] == "failed"):
                seen.append(await anext(events))
        assert seen[0][1:2] == ("call",)
        assert seen[0][2]["state"] == "ringing", "all that is known of it"
        place = next(place for place, name, _ in seen if name == "Transfer")
        again = {"Last-Event-ID": place}
        async with http.stream("GET", url, params={"call_id": call_id}, headers=again) as response:
            _, name, event = await anext(sent_events(response))
        assert (name, event["outcome"]) == ("Transfer", "failed"), "what was missed and nothing before it"
    await free_again(one)
