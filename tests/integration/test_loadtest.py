"""Simulated callers against the running system."""

import asyncio
import itertools
import json
import socket
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from loadtest.callers import ramp
from loadtest.cli import app
from loadtest.measure.usage import children, usage
from loadtest.phone import CallRefusedError, Recording, calling
from loadtest.results.record import load
from loadtest.scenario.model import Scenario
from loadtest.scenario.plan import PlannedCall, planned_call
from loadtest.scenario.questions import questions
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


MIXED = {
    "name": "mixed",
    "phases": [{"kind": "burst", "calls": 4, "every_s": 900, "for_s": 900}],
    "legs": {"sip": 1, "webrtc": 1},
    "talk": {
        "questions": str(ROOT / "samples"),
        "turns": 1,
        "pause_s": 0.5,
        "quiet_s": 0.5,
        "greeting_s": 120,
        "patience_s": 120,
        "hold": {"share": 1, "seconds": 0.5},
        "keys": {"share": 1, "digits": "5#"},
        "hang_up": {"at_random": 0.3, "within_s": 0.5},
    },
    "judged": 0,
}


def test_a_scenario_over_both_legs(tiny_stack: Stack, tmp_path: Path) -> None:
    scenario = Scenario.model_validate(MIXED)
    asked = questions(scenario.talk.questions)

    def planned(seed: int) -> list[PlannedCall]:
        return [planned_call(scenario, asked, seed, number) for number in range(4)]

    def expected(calls: list[PlannedCall]) -> list[tuple[str, str]]:
        return sorted((call.leg, "completed" if call.hang_up_s is None else "hung up") for call in calls)

    both = [("sip", "completed"), ("sip", "hung up"), ("webrtc", "completed"), ("webrtc", "hung up")]
    seed = next(seed for seed in itertools.count() if expected(planned(seed)) == both)
    path, out = tmp_path / "mixed.yaml", tmp_path / "mixed"
    path.write_text(yaml.safe_dump(MIXED))
    with tiny_stack.agent(capacity=4, personas=short_persona(tmp_path / "personas"), sip=True) as agent:
        arguments = ["run", str(path), "--target", f"{HOST}:{agent.sip_port}", "--page", agent.page]
        result = CliRunner().invoke(app, [*arguments, "--seed", str(seed), "--out", str(out)])
    assert result.exit_code == 0, result.output
    found = load(out.with_suffix(".json"))
    assert sorted((call.leg, call.outcome) for call in found.calls) == both
    for call in found.calls:
        if call.outcome == "completed":
            assert call.answer_s is not None
            assert call.bye_s is not None
            assert call.received > 0
            assert call.held == 1
            assert call.pressed == (call.leg == "sip")
            [answer] = call.answers
            assert answer.first_audio_s is not None
    assert out.with_suffix(".html").read_text().startswith("<!doctype html>")


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
