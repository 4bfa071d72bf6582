"""Simulated callers against the running system."""

import asyncio
import json
import socket
from pathlib import Path

import pytest
from typer.testing import CliRunner

from loadtest.callers import ramp
from loadtest.cli import app
from loadtest.measure.usage import children, usage
from loadtest.phone import CallRefusedError, Recording, calling
from loadtest.sim.profile import Talk
from loadtest.stack import Target
from tests.integration.personas import short_persona
from tests.integration.stack import HOST, ROOT, Stack, free_port

QUESTION = ROOT / "samples" / "opening-hours.wav"


def test_two_callers_ask_and_hear_answers(tiny_stack: Stack, tmp_path: Path) -> None:
    with tiny_stack.agent(capacity=4, personas=short_persona(tmp_path), sip=True) as agent:
        out = tmp_path / "run"
        arguments = ["run", "--target", f"{HOST}:{agent.sip_port}", "--calls", "2"]
        arguments += ["--seconds", "240", "--answers", "2", "--out", str(out)]
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, result.output
        [level] = json.loads(out.with_suffix(".json").read_text())["levels"]
        assert level["calls"] == 2
        assert level["answers"] == len(level["first_audio_s"]) > 0
        assert all(seconds > 0 for seconds in level["first_audio_s"])
        assert level["refused"] == 0
        assert out.with_suffix(".png").exists()


async def test_who_is_refused_counts_as_refused(tiny_stack: Stack, tmp_path: Path) -> None:
    question = Recording.load(QUESTION)
    with tiny_stack.agent(capacity=1, personas=short_persona(tmp_path), sip=True) as agent:
        target = Target(HOST, agent.sip_port)
        async with calling(target.host, target.port):
            with pytest.raises(CallRefusedError, match="503"):
                async with calling(target.host, target.port):
                    pass
            # a caller tries once at least, however late
            [level] = await ramp(target, [question], Talk(pause_s=(1.0, 1.0), turns=1), [(1, 0.5)], seed=1)
        assert level.refused > 0
        assert level.first_audio_s == []


def test_what_a_process_uses_is_counted_by_thread(tiny_stack: Stack) -> None:
    pid = tiny_stack.processes["lm"].pid
    used = usage(pid)
    assert used.total_s > 0
    assert used.total_s >= used.engine_s > 0
    assert usage(pid).since(used).total_s < used.total_s
    assert usage(2**22 + 1).threads == {}
    assert children(2**22 + 1) == []


async def test_nobody_there() -> None:
    port = free_port(socket.SOCK_DGRAM)
    with pytest.raises(CallRefusedError, match="nobody answers"):
        async with asyncio.timeout(60), calling(HOST, port):
            pass
