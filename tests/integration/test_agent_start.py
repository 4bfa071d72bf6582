"""What stops an agent from starting: one clear line on stderr and status 2, before any port opens."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
import redis.asyncio as redis

from services.agent.events import CallRecord, CallState
from services.agent.legs.base import LegKind
from tests.integration.stack import HOST, KEYS, ROOT, Stack, free_port

PERSONAS = ROOT / "personas"


def command(stack: Stack, *options: str, **replaced: str) -> list[str]:
    given = {
        "--tokenizer": stack.tokenizer,
        "--lm": stack.lm,
        "--decoder": stack.decoder,
        "--redis-url": stack.redis_url,
        "--http-listen": f"{HOST}:{free_port()}",
        "--calls-listen": f"{HOST}:0",
        "--sip-listen": "",
        "--personas": str(PERSONAS),
        "--wait-for-models": "2",
    } | {f"--{name.replace('_', '-')}": value for name, value in replaced.items()}
    words = [sys.executable, "-m", "services.agent", *options]
    for name, value in given.items():
        words += [name, value]
    return words


def start(stack: Stack, *options: str, **replaced: str) -> subprocess.CompletedProcess[str]:
    """An agent that is expected to give up."""
    words = command(stack, *options, **replaced)
    return subprocess.run(words, capture_output=True, text=True, timeout=280, cwd=ROOT, check=False)


def complaint(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 2, done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("agent: error: ")
    assert done.stdout == ""
    return lines[0]


def test_redis_away(tiny_stack: Stack) -> None:
    port = free_port()
    line = complaint(start(tiny_stack, redis_url=f"redis://{HOST}:{port}/0"))
    assert "Redis" in line
    assert str(port) in line


def test_an_url_that_is_none(tiny_stack: Stack) -> None:
    assert "no Redis URL" in complaint(start(tiny_stack, redis_url="localhost"))


@pytest.mark.parametrize("stage", ["tokenizer", "lm", "decoder"])
def test_a_model_service_that_does_not_come_up(tiny_stack: Stack, stage: str) -> None:
    address = f"{HOST}:{free_port()}"
    line = complaint(start(tiny_stack, **{stage: address}))
    assert stage in line
    assert address in line


@pytest.mark.parametrize(("option", "what"), [("http_listen", "HTTP"), ("calls_listen", "port")])
def test_a_port_that_is_taken(tiny_stack: Stack, option: str, what: str) -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        address = f"{HOST}:{taken.getsockname()[1]}"
        line = complaint(start(tiny_stack, **{option: address}))
    assert what in line
    assert address in line


def test_a_sip_port_that_is_taken(tiny_stack: Stack) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind((HOST, 0))
        address = f"{HOST}:{taken.getsockname()[1]}"
        line = complaint(start(tiny_stack, sip_listen=address))
    assert "SIP" in line
    assert address in line


@pytest.mark.parametrize(
    ("content", "what"),
    [("name: default\n", "prompt: Field required"), ("name: default\nprompt: x\nvoise: y\n", "voise")],
)
def test_an_unusable_persona(tiny_stack: Stack, tmp_path: Path, content: str, what: str) -> None:
    (tmp_path / "default.yaml").write_text(content)
    line = complaint(start(tiny_stack, personas=str(tmp_path)))
    assert "default.yaml" in line
    assert what in line


def test_no_personas_directory(tiny_stack: Stack, tmp_path: Path) -> None:
    assert "does not exist" in complaint(start(tiny_stack, personas=str(tmp_path / "none")))


@pytest.mark.parametrize(
    ("option", "value", "what"),
    [
        ("capacity", "0", "--capacity"),
        ("tokenizer", "somewhere", "--tokenizer"),
        ("http_listen", f"{HOST}:99999", "--http-listen"),
        ("rtp_ports", "20000", "--rtp-ports"),
        ("rtp_ports", "20010-20000", "--rtp-ports"),
    ],
)
def test_settings_out_of_range(tiny_stack: Stack, option: str, value: str, what: str) -> None:
    line = complaint(start(tiny_stack, **{option: value}))
    assert what in line
    assert value in line


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_cleanly(tiny_stack: Stack, number: signal.Signals) -> None:
    with tiny_stack.agent() as agent:
        os.kill(agent.process.pid, number)
        assert agent.process.stop() == 0
        with socket.socket() as probe:
            assert probe.connect_ex((HOST, agent.http_port)) != 0, "the port is closed"


async def test_a_persona_gets_a_new_version_only_when_it_changes(tiny_stack: Stack, tmp_path: Path) -> None:
    (tmp_path / "default.yaml").write_text("name: default\nprompt: one\nlanguage: fr\n")
    client = redis.Redis.from_url(tiny_stack.redis_url, decode_responses=True)
    versions = []
    for content in ("one", "one", "two"):
        (tmp_path / "default.yaml").write_text(f"name: default\nprompt: {content}\nlanguage: fr\n")
        with tiny_stack.agent(personas=tmp_path):
            stored = await client.hgetall(KEYS.persona("default"))
            versions.append(int(stored["version"]))
            assert json.loads(stored["settings"])["prompt"] == content
    assert versions[1] == versions[0]
    assert versions[2] == versions[0] + 1
    old = await client.hgetall(KEYS.persona_version("default", versions[0]))
    assert json.loads(old["settings"])["prompt"] == "one", "calls that began with it can still read it"
    await client.aclose()


async def test_calls_of_a_dead_agent_are_marked_lost(tiny_stack: Stack) -> None:
    store = tiny_stack.store("dead-agent")
    call = CallRecord("lost-call", LegKind.SIP, CallState.LIVE, "a", "b", "default", 1, 0.0)
    await store.hold(call)
    client = redis.Redis.from_url(tiny_stack.redis_url, decode_responses=True)
    assert await client.get(KEYS.lease("lost-call")) == "dead-agent"
    assert 0 < await client.pttl(KEYS.lease("lost-call")) <= 15_000
    assert await store.bury_lost() == [], "its lease still runs"
    await client.delete(KEYS.lease("lost-call"))
    assert await store.bury_lost() == ["lost-call"]
    record = await client.hgetall(KEYS.call("lost-call"))
    assert (record["state"], record["reason"]) == ("ended", "its agent was lost")
    assert await client.smembers(KEYS.live) == set()
    await store.redis.close()
    await client.aclose()


async def test_a_call_that_ends_while_lost_ones_are_looked_for_keeps_its_reason(
    tiny_stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tiny_stack.store("agent")
    call = CallRecord("ending-call", LegKind.SIP, CallState.LIVE, "a", "b", "default", 1, 0.0)
    await store.hold(call)
    look = store.redis.client.smembers

    async def end_first(key: str) -> object:
        live = await look(key)
        await store.finish(call.in_state(CallState.ENDED, "caller hung up"))
        return live

    monkeypatch.setattr(store.redis.client, "smembers", end_first)
    assert "ending-call" not in await store.bury_lost()
    client = redis.Redis.from_url(tiny_stack.redis_url, decode_responses=True)
    assert (await client.hgetall(KEYS.call("ending-call")))["reason"] == "caller hung up"
    await store.redis.close()
    await client.aclose()


def test_an_agent_that_is_ready_hears_phones(tiny_stack: Stack, tmp_path: Path) -> None:
    sip_port, http_port = free_port(socket.SOCK_DGRAM), free_port()
    words = command(tiny_stack, sip_listen=f"{HOST}:{sip_port}", http_listen=f"{HOST}:{http_port}")
    with open(tmp_path / "agent.log", "wb") as log:
        agent = subprocess.Popen(words, cwd=ROOT, stdout=log, stderr=log)
    try:
        while not _is_ready(http_port):
            assert agent.poll() is None, (tmp_path / "agent.log").read_text()
            time.sleep(0.02)  # polls; SIP workers take longer than that to start
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, pytest.raises(OSError, match="in use"):
            probe.bind((HOST, sip_port))
    finally:
        agent.terminate()
        agent.wait(60)


def _is_ready(port: int) -> bool:
    try:
        return httpx.get(f"http://{HOST}:{port}/readyz", timeout=5.0).status_code == 200
    except httpx.TransportError:
        return False
