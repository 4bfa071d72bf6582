"""Phone calls to a whole agent over the golden data's random weights: what it says is noise, all else is real."""

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.integration.phone import CallFailedError, Phone, phone
from tests.integration.stack import ROOT, Agent, Stack

QUESTION = ROOT / "samples" / "opening-hours.wav"


@pytest.fixture(autouse=True)
def debian_phone(require_debian: Callable[..., None]) -> None:
    require_debian("baresip")


async def ask(*arguments: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.agent.ask", *arguments, cwd=ROOT,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, errors = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode(), errors.decode()


def at(agent: Agent) -> tuple[str, ...]:
    return "--sip", f"127.0.0.1:{agent.sip_port}", "--calls", agent.calls


async def test_ask_writes_the_answer_and_shows_the_turn(tiny_stack: Stack, tmp_path: Path) -> None:
    reply = tmp_path / "reply.wav"
    with tiny_stack.agent(sip=True) as agent:
        status, output, errors = await ask(str(QUESTION), "--out", str(reply), *at(agent))
    assert status == 0, errors
    assert "greeting" in output
    for stage in ("turn decided", "last tokens", "first pcm", "first packet", "heard by phone"):
        assert stage in output
    pcm, rate = soundfile.read(reply, dtype="int16")
    assert rate == 16_000
    assert np.abs(pcm).max() > 300


async def test_ask_says_when_all_lines_are_busy(tiny_stack: Stack, tmp_path: Path) -> None:
    reply = tmp_path / "reply.wav"
    with tiny_stack.agent(capacity=1, sip=True) as agent:
        async with phone(tmp_path) as handset:
            await handset.call(agent.sip_uri)
            status, output, errors = await ask(str(QUESTION), "--out", str(reply), *at(agent))
    assert status == 1
    assert errors == f"ask: error: the call to 127.0.0.1:{agent.sip_port} was not answered: all lines are busy\n"
    assert not output
    assert not reply.exists()


async def test_the_call_over_capacity_is_refused_until_one_ends(tiny_stack: Stack, tmp_path: Path) -> None:
    with tiny_stack.agent(capacity=2, sip=True) as agent:
        async with (
            phone(tmp_path / "1", "one") as one,
            phone(tmp_path / "2", "two") as two,
            phone(tmp_path / "3", "three") as three,
        ):
            await one.call(agent.sip_uri)
            await two.call(agent.sip_uri)
            with pytest.raises(CallFailedError, match="503"):
                await three.call(agent.sip_uri)
            await one.hang_up()
            async with asyncio.timeout(20):
                while True:  # the slot is free once the agent has wound the first call up
                    try:
                        await three.call(agent.sip_uri)
                        break
                    except CallFailedError:
                        await asyncio.sleep(0.1)
            await until_loud(two)
            await until_loud(three)


async def until_loud(handset: Phone) -> None:
    async with asyncio.timeout(30):
        while np.abs(handset.heard().astype(np.int32)).max(initial=0) < 300:
            await asyncio.sleep(0.1)
