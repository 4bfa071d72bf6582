"""The HTTP API of real agents over one Redis: who gets in, calls, and personas that change under running agents."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from services.agent.api.app import MAX_BODY_BYTES
from services.agent.api.keys import Role
from services.agent.cli import app
from tests.integration.api import Client, Keys, logged
from tests.integration.personas import short_persona
from tests.integration.stack import HOST, Agent, Stack, free_again
from tests.integration.webrtc_caller import calling

NUMBER = "4930555017"  # stands in requests, and must not stand in any log


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return Keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def agents(tiny_stack: Stack, keys: Keys, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Agent, Agent]]:
    """Two agents with the same personas; the second lets each key ask twenty times an hour."""
    personas = short_persona(tmp_path_factory.mktemp("personas"), max_new_tokens=60)
    common = ["--redis-prefix", "api:", "--api-keys-file", str(keys.file), "--log-level", "DEBUG"]
    with (
        tiny_stack.agent(2, personas, False, *common, "--api-rate", "", persona_files="seed") as one,
        tiny_stack.agent(2, personas, False, *common, "--api-rate", "20/hour", persona_files="seed") as other,
    ):
        yield one, other


@pytest.fixture
def one(agents: tuple[Agent, Agent]) -> Agent:
    return agents[0]


@pytest.fixture
def other(agents: tuple[Agent, Agent]) -> Agent:
    return agents[1]


async def test_who_is_refused_with_what(one: Agent, keys: Keys) -> None:
    async with httpx.AsyncClient(base_url=f"{one.page}/api/v1", timeout=60.0) as agent:
        nobody = await agent.get("/calls", params={"to": NUMBER})
        assert (nobody.status_code, nobody.headers["WWW-Authenticate"]) == (401, 'Bearer realm="trunkline"')
        wrong = await agent.delete(f"/calls/{NUMBER}", headers={"Authorization": f"Bearer {NUMBER}"})
        assert wrong.status_code == 401
        assert "invalid_token" in wrong.headers["WWW-Authenticate"]
        for role, method, path in (
            (Role.VIEWER, "DELETE", f"/calls/{NUMBER}"),
            (Role.VIEWER, "PUT", "/personas/default"),
            (Role.OPERATOR, "PUT", "/personas/default"),
        ):
            body = {"prompt": NUMBER} if method == "PUT" else None
            refused = await agent.request(method, path, headers=keys.headers(role), json=body)
            assert refused.status_code == 403, refused.text
            assert "needs the role" in refused.json()["detail"]
        unusable = await agent.post("/personas", headers=keys.headers(Role.ADMIN), json={"name": NUMBER, "promt": "x"})
        assert unusable.status_code == 422
        assert "promt: Extra inputs are not permitted" in unusable.json()["detail"]
    for line in (
        "method=GET route=/api/v1/- status=401",
        "method=DELETE route=/api/v1/calls/{call_id} status=403 key=viewer",
        "method=PUT route=/api/v1/personas/{name} status=403 key=operator",
        "method=POST route=/api/v1/personas status=422 key=admin",
    ):
        await logged(one, line)
    assert NUMBER not in one.process.log.read_text()


@pytest.mark.parametrize(("announced", "with_key"), [(True, True), (True, False), (False, True)])
async def test_an_oversized_body_is_refused_before_its_end(
    one: Agent, keys: Keys, announced: bool, with_key: bool
) -> None:
    reader, writer = await asyncio.open_connection(HOST, one.http_port)
    length = f"Content-Length: {MAX_BODY_BYTES + 1}" if announced else "Transfer-Encoding: chunked"
    head = ["POST /api/v1/personas HTTP/1.1", f"Host: {HOST}", "Content-Type: application/json", length]
    head += [f"{name}: {value}" for name, value in keys.headers(Role.ADMIN).items() if with_key]
    writer.write("\r\n".join([*head, "", ""]).encode())
    left = 0 if announced else MAX_BODY_BYTES + 1
    while left:
        size = min(left, 64 * 1024)
        writer.write(f"{size:x}\r\n".encode() + b" " * size + b"\r\n")
        await writer.drain()
        left -= size
    # The body has no end yet: what answers cannot have waited for it.
    async with asyncio.timeout(60):
        status = await reader.readline()
    assert status.startswith(b"HTTP/1.1 413 ")
    writer.close()
    await logged(one, "status=413 key=admin" if with_key else "status=413\n")


async def test_a_hundred_requests_at_once_from_one_key(other: Agent, keys: Keys) -> None:
    async with httpx.AsyncClient(base_url=f"{other.page}/api/v1", timeout=60.0) as agent:
        asked = [agent.get("/calls", headers=keys.headers(Role.VIEWER)) for _ in range(100)]
        answers = await asyncio.gather(*asked)
        assert Counter(answer.status_code for answer in answers) == {200: 20, 429: 80}
        for answer in answers:
            if answer.status_code == 429:
                assert 1 <= int(answer.headers["Retry-After"]) <= 3600
        assert (await agent.get("/calls", headers=keys.headers(Role.OPERATOR))).status_code == 200, "another key"
    await logged(other, "status=429 key=viewer", 80)


async def test_the_contract_is_published(one: Agent) -> None:
    async with httpx.AsyncClient() as agent:
        contract = (await agent.get(f"{one.page}/api/v1/openapi.json")).json()
    assert "/personas/{name}/rollback" in contract["paths"]
    assert "429" in contract["paths"]["/calls"]["get"]["responses"]
    listened = contract["paths"]["/calls/{call_id}/audio"]["get"]["responses"]
    assert list(listened["200"]["content"]) == ["audio/L16;rate=16000;channels=2"]
    assert set(contract["components"]["schemas"]["Problem"]["properties"]) == {"detail", "agent", "address"}
    assert "multipart/form-data" in contract["paths"]["/voices"]["post"]["requestBody"]["content"]


async def test_calls_are_listed_watched_spoken_to_and_ended(one: Agent, keys: Keys) -> None:
    async with (
        Client(one, keys, Role.VIEWER) as viewer,
        Client(one, keys, Role.OPERATOR) as operator,
        calling(one.page) as caller,
    ):
        await caller.bot_is_quiet()
        call = f"/calls/{caller.call_id}"
        (listed,) = (await viewer.ask("GET", "/calls", 200)).json()["calls"]
        assert (listed["call_id"], listed["state"], listed["leg"]) == (caller.call_id, "live", "webrtc")
        events = viewer.events(caller.call_id)
        name, first = await anext(events)
        assert (name, first["call_id"], first["state"]) == ("call", caller.call_id, "live")
        await operator.ask("POST", f"{call}/say", 204, json={"text": "We close in ten minutes."})
        await caller.until(lambda: "We close in ten minutes." in caller.captions(), "it is said")
        await operator.ask("POST", f"{call}/say", 422, json={"text": ""})
        await operator.ask("POST", f"{call}/dtmf", 409, json={"digits": "1"})
        await operator.ask("POST", f"{call}/transfer", 409, json={"target": "100"})
        await operator.ask("POST", "/calls", 409, json={"target": "sip:ann@example.com"})
        await caller.bot_is_quiet()
        await operator.ask("DELETE", call, 204)
        seen = [(name, event) async for name, event in events]
        said = "".join(event["text"] for name, event in seen if name == "Caption")
        assert "We close in ten minutes." in said
        assert (seen[-1][0], seen[-1][1]["state"]) == ("call", "ended"), "the stream ends with the call"
        ended = (await viewer.ask("GET", call, 200)).json()
        assert (ended["state"], ended["end_reason"]) == ("ended", "hung up by the operator")
        told = (await viewer.ask("GET", f"{call}/conversation", 200)).json()["entries"]
        assert next(entry["text"] for entry in told if entry["role"] == "assistant") == "Hello."
        for method, path in (("GET", "/calls/none"), ("GET", "/calls/none/conversation"), ("DELETE", "/calls/none")):
            await operator.ask(method, path, 404)
        await viewer.ask("GET", "/events", 404, params={"call_id": caller.call_id})
    await free_again(one)


async def test_a_persona_from_its_creation_to_its_rollback(one: Agent, keys: Keys) -> None:
    desk = {"name": "desk", "prompt": "You are Ann.", "numbers": ["100"], "style": "calm"}
    async with Client(one, keys, Role.ADMIN) as admin:
        created = await admin.ask("POST", "/personas", 201, json=desk)
        assert (created.headers["ETag"], created.json()["by"]) == ('"1"', "admin")
        await admin.ask("POST", "/personas", 409, json=desk)
        taken = await admin.ask("POST", "/personas", 409, json={**desk, "name": "twin"})
        assert "number '100' would be answered by both 'desk' and 'twin'" in taken.json()["detail"]
        bob = {**desk, "prompt": "You are Bob."}
        await admin.ask("PUT", "/personas/desk", 428, json=bob)
        await admin.ask("PUT", "/personas/desk", 412, json=bob, headers={"If-Match": '"2"'})
        await admin.ask("PUT", "/personas/desk", 422, json=bob, headers={"If-Match": "newest"})
        await admin.ask("PUT", "/personas/none", 404, json={"prompt": "x"}, headers={"If-Match": "*"})
        changed = await admin.ask("PUT", "/personas/desk", 200, json=bob, headers={"If-Match": '"1"'})
        assert changed.headers["ETag"] == '"2"'
        diff = (await admin.ask("GET", "/personas/desk/diff", 200, params={"from": 1, "to": 2})).text
        assert "-prompt: You are Ann." in diff
        assert "+prompt: You are Bob." in diff
        too_long = {**desk, "prompt": "Ann sells parcels. " * 400}
        refused = await admin.ask("PUT", "/personas/desk", 422, json=too_long, headers={"If-Match": "*"})
        assert "512 of the model's 1024 are for prompts" in refused.json()["detail"]
        await admin.ask("DELETE", "/personas/desk", 204, headers={"If-Match": '"2"'})
        await admin.ask("GET", "/personas/desk", 404)
        await admin.ask("DELETE", "/personas/default", 409, headers={"If-Match": "*"})
        back = await admin.ask("POST", "/personas/desk/rollback", 200, json={"version": 1}, headers={"If-Match": "*"})
        assert (back.headers["ETag"], back.json()["settings"]) == ('"4"', desk)
        versions = (await admin.ask("GET", "/personas/desk/history", 200)).json()["versions"]
        assert [(one["version"], one["deleted"]) for one in versions] == [(4, False), (3, True), (2, False), (1, False)]
        exported = (await admin.ask("GET", "/personas:export", 200)).text
        assert (await admin.ask("POST", "/personas:import", 200, content=exported)).json()["personas"][0]["name"] == (
            "default"
        ), "what came from a file is the API's from now on"
        assert (await admin.ask("POST", "/personas:import", 200, content=exported)).json()["personas"] == []


async def test_of_changes_made_at_once_for_the_same_version_one_is_taken(one: Agent, other: Agent, keys: Keys) -> None:
    async with Client(one, keys, Role.ADMIN) as here, Client(other, keys, Role.ADMIN) as there:
        await here.ask("POST", "/personas", 201, json={"name": "raced", "prompt": "x"})
        tries = [
            client._http.put("/personas/raced", json={"prompt": f"number {number}"}, headers={"If-Match": '"1"'})
            for number in range(5)
            for client in (here, there)
        ]
        statuses = Counter(answer.status_code for answer in await asyncio.gather(*tries))
        assert statuses == {200: 1, 412: 9}
        same_number = [
            client._http.post("/personas", json={"name": f"claims-{name}", "prompt": "x", "numbers": ["777"]})
            for name, client in (("a", here), ("b", there), ("c", here))
        ]
        statuses = Counter(answer.status_code for answer in await asyncio.gather(*same_number))
        assert statuses == {201: 1, 409: 2}


async def test_a_change_reaches_the_next_call_on_every_agent_and_no_call_before(
    one: Agent, other: Agent, keys: Keys
) -> None:
    async with Client(one, keys, Role.ADMIN) as admin, Client(other, keys, Role.OPERATOR) as operator:
        before = (await admin.ask("GET", "/personas/default", 200)).json()
        async with calling(other.page) as early:
            await early.bot_is_quiet()
            assert early.captions() == ["Hello."]
            changed = {**before["settings"], "greeting": "Good morning."}
            match = {"If-Match": f'"{before["version"]}"'}
            after = (await admin.ask("PUT", "/personas/default", 200, json=changed, headers=match)).json()["version"]
            async with calling(other.page) as late:
                await late.until(lambda: "Good morning." in late.captions(), "the new greeting")
                calls = (await operator.ask("GET", "/calls", 200)).json()["calls"]
                assert {call["call_id"]: call["persona_version"] for call in calls} == {
                    early.call_id: before["version"],
                    late.call_id: after,
                }
        await free_again(other)
        body = {"version": before["version"]}
        await admin.ask("POST", "/personas/default/rollback", 200, json=body, headers={"If-Match": f'"{after}"'})
        async with calling(other.page) as last:
            await last.until(lambda: last.captions() == ["Hello."], "the old greeting")
        await free_again(other)


async def test_an_agent_s_start_takes_no_change_back(tiny_stack: Stack, one: Agent, keys: Keys, tmp_path: Path) -> None:
    """Files count until the API changes their persona. The third agent has no keys: its API is closed."""
    (tmp_path / "default.yaml").write_text("name: default\nprompt: Another file.\n")
    async with Client(one, keys, Role.ADMIN) as admin, httpx.AsyncClient(timeout=60.0) as stranger:
        content = {"prompt": "By the API.", "greeting": "Hello."}
        await admin.ask("PUT", "/personas/default", 200, json=content, headers={"If-Match": "*"})
        before = (await admin.ask("GET", "/personas/default", 200)).json()
        arguments = ["--redis-prefix", "api:", "--page-key", "of-the-page"]
        with tiny_stack.agent(1, tmp_path, False, *arguments, persona_files="seed", page_rate="2/hour") as third:
            closed = await stranger.get(f"{third.page}/api/v1/calls", headers=keys.headers(Role.ADMIN))
            assert closed.status_code == 401
            assert "no key is set up" in closed.json()["detail"]
            page = f"{third.page}/api/ice-servers"
            assert (await stranger.get(page)).status_code == 401, "its page needs a key"
            key = {"Authorization": "Bearer of-the-page"}
            assert [(await stranger.get(page, headers=key)).status_code for _ in range(2)] == [200, 429]
        assert (await admin.ask("GET", "/personas/default", 200)).json() == before
    assert "a persona's file does not count" in third.process.log.read_text()


def test_personas_on_the_command_line(one: Agent, keys: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # where no demo has left its state
    monkeypatch.delenv("TRUNKLINE_API_KEY", raising=False)
    (tmp_path / "admin").write_text(keys.secrets[Role.ADMIN])
    (tmp_path / "clerk.yaml").write_text("name: clerk\nprompt: You are Ann.\nnumbers: ['200']\n")
    (tmp_path / "bad.yaml").write_text("name: clerk\npromt: You are Ann.\n")

    def run(*arguments: str, status: int = 0, key: str = "admin") -> str:
        where = ["personas", "--api", one.page, *(["--key-file", key] if key else [])]
        done = CliRunner().invoke(app, [*where, *arguments])
        assert done.exit_code == status, done.output
        return done.output

    assert run("validate", "clerk.yaml") == "clerk: can be used\n"
    assert "promt: Extra inputs" in run("validate", "bad.yaml", status=1)
    assert "(422)" in run("import", "bad.yaml", status=1)
    assert run("import", "clerk.yaml").startswith("clerk  1  api  ")
    assert run("import", "clerk.yaml") == "nothing changes\n"
    (tmp_path / "clerk.yaml").write_text("name: clerk\nprompt: You are Bob.\nnumbers: ['200']\n")
    assert run("import", "clerk.yaml").startswith("clerk  2  api  ")
    assert "clerk  2  api" in run("list")
    assert run("show", "clerk", "--version", "1") == "name: clerk\nnumbers:\n- '200'\nprompt: You are Ann.\n"
    assert "+prompt: You are Bob." in run("diff", "clerk", "1", "2")
    assert "version 2, not at 1" in run("rollback", "clerk", "1", "--at", "1", status=1)
    assert run("rollback", "clerk", "1").startswith("clerk  3  api  ")
    assert "You are Ann." in run("export", "clerk")
    assert "name: default" in run("export")
    run("delete", "clerk")
    assert run("history", "clerk").startswith("clerk  4  deleted  ")
    assert "no persona 'clerk' (404)" in run("show", "clerk", status=1)
    assert "no key" in run("list", status=1, key="")
    (tmp_path / "wrong").write_text("wrong")
    assert "(401)" in run("list", status=1, key="wrong")
