"""Recordings of real calls: both sides, pauses by key and by API, a full disk, a killed agent."""

import asyncio
import contextlib
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from tests.integration.carrier_caller import ENVIRONMENT, PUBLIC_URL, Line, calling
from tests.integration.phone import RATE, Pcm
from tests.integration.stack import Agent, Stack, free_again
from trunkline.v1 import calls_pb2, calls_pb2_grpc

PERSONA = """\
name: default
prompt: Be brief.
greeting: Hello.
temperature: 0
max_new_tokens: 60
recording:
  enabled: true
  announcement: This call is recorded.
  pause_key: "*"
  resume_key: "#"
"""
SAID, SECRET, LATER, UNHEARD = 440, 660, 880, 1100  # hertz
TONE_S = 0.6

Floats = npt.NDArray[np.float64]


@pytest.fixture(scope="module")
def personas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("personas")
    (directory / "default.yaml").write_text(PERSONA)
    return directory


@pytest.fixture(autouse=True)
def carriers(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


def tone(hertz: int) -> Pcm:
    return (np.sin(2 * np.pi * hertz * np.arange(round(TONE_S * RATE)) / RATE) * 6000).astype(np.int16)


async def say(line: Line, hertz: int) -> None:
    """A tone, and until it has left."""
    line.play(tone(hertz))
    await line.has_said()


def strength(channel: Floats, hertz: int, rate: int) -> float:
    """Seconds of a full tone of this frequency that a channel holds: the same for any phase and any cuts in it."""
    frames = channel[: len(channel) // 800 * 800].reshape(-1, 800)
    spectrum = np.abs(np.fft.rfft(frames * np.hanning(800), axis=1))[:, round(hertz * 800 / rate)]
    return float((spectrum > 0.3 * 6000 / 32768 * 400 / 2).sum() * 800 / rate)


async def live(stub: "calls_pb2_grpc.CallsAsyncStub") -> str:
    (call,) = (await stub.ListCalls(calls_pb2.ListCallsRequest())).calls
    return call.call_id


async def test_both_sides_are_recorded_but_for_the_pauses(tiny_stack: Stack, personas: Path, tmp_path: Path) -> None:
    settings = ("--public-url", PUBLIC_URL, "--recordings", str(tmp_path))
    with tiny_stack.agent(1, personas, False, *settings) as agent:
        async with calling(agent, "twilio") as line, grpc.aio.insecure_channel(agent.calls) as channel:
            stub = calls_pb2_grpc.CallsStub(channel)
            call_id = await live(stub)
            watch: Any = stub.WatchCalls(calls_pb2.WatchCallsRequest(call_id=call_id))
            await watch.read()
            await say(line, SAID)
            await line.press("*")
            await say(line, SECRET)
            for key in "4929":
                await line.press(key)
            await line.press("#")
            assert [await key_of(watch) for _ in range(2)] == ["*", "#"]
            await say(line, LATER)
            await stub.PauseRecording(calls_pb2.PauseRecordingRequest(call_id=call_id))
            await say(line, UNHEARD)
            await line.press("7")
            await stub.ResumeRecording(calls_pb2.ResumeRecordingRequest(call_id=call_id))
            await line.press("1")
            assert await key_of(watch) == "1"
            await line.hears(0.5)
        await free_again(agent)
    stereo, rate = soundfile.read(tmp_path / f"{call_id}.opus")
    assert rate == 16_000
    caller, bot = stereo[:, 0], stereo[:, 1]
    for hertz, recorded in ((SAID, True), (SECRET, False), (LATER, True), (UNHEARD, False)):
        seconds = strength(caller, hertz, rate)
        assert seconds > TONE_S / 2 if recorded else seconds == 0, (hertz, seconds)
    sent = line.everything().astype(np.float64) / 32768
    assert 0 < (bot**2).sum() / rate <= 1.1 * (sent**2).sum() / RATE
    store = tiny_stack.store()
    texts = [entry.text for entry in await store.conversation(call_id)]
    await store.redis.close()
    assert texts[1].startswith("This call is")  # it is cut off where the caller hung up
    assert "4929" not in agent.process.log.read_text()


async def key_of(watch: Any) -> str:
    """The next key that watchers are told of."""
    while True:
        event = await asyncio.wait_for(watch.read(), 60)
        if event.HasField("dtmf"):
            return str(event.dtmf.digit)


@contextlib.contextmanager
def killed(stack: Stack, personas: Path, *settings: str) -> Iterator[Agent]:
    """An agent that is killed at the end."""
    running = stack.agent(1, personas, False, *settings)
    agent = running.__enter__()
    try:
        yield agent
    finally:
        agent.process.kill()
        with pytest.raises(AssertionError, match="the agent ended with -9"):
            running.__exit__(None, None, None)


async def test_a_full_disk_and_a_killed_agent(tiny_stack: Stack, personas: Path, tmp_path: Path) -> None:
    settings = ("--public-url", PUBLIC_URL, "--recordings", str(tmp_path), "--recording-format", "wav")
    with killed(tiny_stack, personas, *settings) as agent:
        unlimited = resource.prlimit(agent.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(agent.process.pid, resource.RLIMIT_FSIZE, (100_000, unlimited[1]))
        async with calling(agent, "twilio") as line, grpc.aio.insecure_channel(agent.calls) as channel:
            stub = calls_pb2_grpc.CallsStub(channel)
            full = await live(stub)
            await until(lambda: complaints(agent) == 1)
            # The call goes on, and the bot can still be made to speak.
            sent = len(line.everything())
            await stub.Say(calls_pb2.SayRequest(call_id=full, text="Hello."))
            await until(lambda: len(line.everything()) > sent)
        await free_again(agent)
        assert complaints(agent) == 1
        resource.prlimit(agent.process.pid, resource.RLIMIT_FSIZE, unlimited)
        async with calling(agent, "twilio") as line, grpc.aio.insecure_channel(agent.calls) as channel:
            cut = await live(calls_pb2_grpc.CallsStub(channel))
            await say(line, SAID)
            await until(lambda: playable_s(tmp_path / f"{cut}.wav") > TONE_S + 1.0)
            agent.process.kill()
    assert 0 < playable_s(tmp_path / f"{full}.wav") < 2.0
    stereo, rate = soundfile.read(tmp_path / f"{cut}.wav")
    assert strength(stereo[:, 0], SAID, rate) > TONE_S / 2


def complaints(agent: Agent) -> int:
    return agent.process.log.read_text().count("a recording ends before its call")


def playable_s(path: Path) -> float:
    """What a player would play now."""
    return float(soundfile.info(path).duration) if path.exists() and path.stat().st_size else 0.0


async def until(condition: Any, seconds: float = 60.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.05)
