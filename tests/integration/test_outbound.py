"""Calls that the agent places: every outcome is told apart, and who answers is spoken to, or not, as it was asked."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
import soundfile
import soxr
from typer.testing import CliRunner

from services.agent.cli import app as cli
from tests.integration.callees import WAIT_S, Desk, accept, callee, desk, sipp_callee
from tests.integration.personas import short_persona
from tests.integration.phone import RATE, Pcm, speech_span
from tests.integration.stack import ROOT, Agent, Stack, free_again
from tests.integration.test_sip_calls import until_loud
from trunkline.v1 import calls_pb2


@pytest.fixture(scope="module")
def agent(
    tiny_stack: Stack, tmp_path_factory: pytest.TempPathFactory, require_debian: Callable[..., None]
) -> Iterator[Agent]:
    require_debian("baresip", "sip-tester")
    personas = short_persona(tmp_path_factory.mktemp("personas"))
    with tiny_stack.agent(capacity=1, personas=personas, sip=True) as running:
        yield running


@pytest.fixture
async def operator(agent: Agent) -> AsyncIterator[Desk]:
    async with desk(agent.calls) as operator:
        yield operator
    await free_again(agent)


async def told(operator: Desk, call_id: str) -> tuple[int, int, str]:
    """Outcome, SIP status and reason of a call's record, the same in its last event and when asked for later."""
    ended = await operator.ended(call_id)
    asked = (await operator.stub.GetCall(calls_pb2.GetCallRequest(call_id=call_id))).call
    assert asked.placed
    for field in ("state", "outcome", "sip_status", "end_reason"):
        assert getattr(asked, field) == getattr(ended, field)
    return ended.outcome, ended.sip_status, ended.end_reason


@pytest.mark.parametrize(
    ("final", "outcome", "reason"),
    [
        ("486 Busy Here", calls_pb2.DIAL_OUTCOME_BUSY, "busy"),
        ("600 Busy Everywhere", calls_pb2.DIAL_OUTCOME_BUSY, "refused: 600"),
        ("603 Decline", calls_pb2.DIAL_OUTCOME_DECLINED, "declined"),
        ("404 Not Found", calls_pb2.DIAL_OUTCOME_REFUSED, "refused: 404"),
        ("503 Service Unavailable", calls_pb2.DIAL_OUTCOME_REFUSED, "refused: 503"),
        ("480 Temporarily Unavailable", calls_pb2.DIAL_OUTCOME_NO_ANSWER, "refused: 480"),
    ],
)
async def test_a_refusal_is_told_with_its_status(
    operator: Desk, tmp_path: Path, final: str, outcome: int, reason: str
) -> None:
    async with sipp_callee(tmp_path, "refuses.xml", final=final) as uri:
        call_id = await operator.dial(uri)
        assert await told(operator, call_id) == (outcome, int(final[:3]), reason)


async def test_nobody_answers(operator: Desk, tmp_path: Path) -> None:
    async with sipp_callee(tmp_path, "rings.xml") as uri:
        call_id = await operator.dial(uri, ring_timeout_s=1.0)
        assert await told(operator, call_id) == (calls_pb2.DIAL_OUTCOME_NO_ANSWER, 0, "not answered")


async def test_hanging_up_while_it_rings_cancels(operator: Desk, tmp_path: Path) -> None:
    async with sipp_callee(tmp_path, "rings.xml") as uri:
        call_id = await operator.dial(uri)
        await operator.stub.HangUp(calls_pb2.HangUpRequest(call_id=call_id))
        assert await told(operator, call_id) == (calls_pb2.DIAL_OUTCOME_CANCELLED, 0, "hung up by the operator")


async def test_a_name_that_leads_nowhere_is_unreachable(operator: Desk) -> None:
    call_id = await operator.dial("sip:ann@nowhere.invalid")  # RFC 6761 section 6.4
    assert await told(operator, call_id) == (calls_pb2.DIAL_OUTCOME_UNREACHABLE, 0, "failed")


async def test_a_second_call_over_capacity_makes_no_phone_ring(operator: Desk, tmp_path: Path) -> None:
    async with sipp_callee(tmp_path, "rings.xml") as uri, callee(tmp_path) as (handset, second):
        call_id = await operator.dial(uri)
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await operator.dial(second)
        assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        await operator.stub.HangUp(calls_pb2.HangUpRequest(call_id=call_id))
        await operator.ended(call_id)
        assert not handset.events_of("CALL_INCOMING")


async def test_who_answers_and_is_silent_is_greeted(operator: Desk, tmp_path: Path) -> None:
    async with callee(tmp_path) as (handset, uri):
        call_id = await operator.dial(uri, greet_after_s=0.5)
        ringing = await operator.first("call", call_id)
        assert (ringing.call.state, ringing.call.to) == (calls_pb2.CALL_STATE_RINGING, uri)
        assert (ringing.call.placed, ringing.call.outcome) == (True, calls_pb2.DIAL_OUTCOME_UNSPECIFIED)
        await accept(handset)
        live = await operator.first("call", call_id, state=calls_pb2.CALL_STATE_LIVE)
        assert live.call.outcome == calls_pb2.DIAL_OUTCOME_ANSWERED
        await until_loud(handset)
        await handset.hang_up()
    assert await told(operator, call_id) == (calls_pb2.DIAL_OUTCOME_ANSWERED, 0, "caller hung up")


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory, require_debian: Callable[..., None]) -> Pcm:
    """An answering machine's greeting, by espeak-ng, and its beep."""
    require_debian("espeak-ng")
    path = tmp_path_factory.mktemp("machine") / "greeting.wav"
    text = "Hello, you have reached the office. Please leave a message after the tone."
    subprocess.run(["espeak-ng", "-s", "165", "-w", str(path), text], check=True)
    greeting, rate = soundfile.read(path)
    pieces = [np.zeros(RATE // 2), soxr.resample(greeting, rate, RATE) * 0.7, np.zeros(RATE // 2)]
    beep = 0.3 * np.sin(2 * np.pi * 1000 * np.arange(RATE // 2) / RATE)
    return np.asarray(np.concatenate([*pieces, beep]) * 32767, dtype=np.int16)


@pytest.mark.parametrize(
    ("policy", "reason"),
    [
        (calls_pb2.ON_MACHINE_HANG_UP, "answering machine"),
        (calls_pb2.ON_MACHINE_LEAVE_TEXT, "a text was left with a machine"),
        (calls_pb2.ON_MACHINE_IGNORE, "hung up by the operator"),
    ],
)
async def test_an_answering_machine_is_told_and_treated_as_asked(
    operator: Desk, tmp_path: Path, machine: Pcm, policy: int, reason: str
) -> None:
    text = "Please call back." if policy == calls_pb2.ON_MACHINE_LEAVE_TEXT else ""
    async with callee(tmp_path) as (handset, uri):
        call_id = await operator.dial(uri, on_machine=policy, machine_text=text)
        await accept(handset)
        await handset.play(machine)
        await operator.first("call", call_id, outcome=calls_pb2.DIAL_OUTCOME_ANSWERING_MACHINE)
        if policy == calls_pb2.ON_MACHINE_IGNORE:
            await until_loud(handset)
            await operator.stub.HangUp(calls_pb2.HangUpRequest(call_id=call_id))
        else:
            await handset.wait_for("CALL_CLOSED", timeout_s=WAIT_S)
        heard = handset.heard()
    assert await told(operator, call_id) == (calls_pb2.DIAL_OUTCOME_ANSWERING_MACHINE, 0, reason)
    if policy == calls_pb2.ON_MACHINE_HANG_UP:
        assert speech_span(heard) == (0, 0), "not a word to a machine"
    if policy == calls_pb2.ON_MACHINE_LEAVE_TEXT:
        # The phone hears and plays on one clock: nothing may be said before the beep's end.
        assert speech_span(heard)[0] > len(machine) - RATE, "it waited for the beep"
        assert operator.captions().endswith("Please call back.")


async def run(agent: Agent, *arguments: str) -> tuple[int, list[str], str]:
    """Exit status, lines and errors of the command line, without the seconds that a process takes to start."""
    result = await asyncio.to_thread(CliRunner().invoke, cli, ["--calls", agent.calls, *arguments])
    return result.exit_code, result.stdout.splitlines(), result.stderr


async def test_the_command_line_tells_a_refusal_by_word_and_exit_status(
    agent: Agent, operator: Desk, tmp_path: Path
) -> None:
    async with sipp_callee(tmp_path, "refuses.xml", final="404 Not Found") as uri:
        status, lines, errors = await run(agent, "dial", uri)
    assert (status, errors) == (3, "")
    assert lines[-2:] == ["call ended: refused: 404", "outcome: refused (404)"]
    status, (row,), _ = await run(agent, "show", lines[0])
    assert status == 0
    assert row.endswith("refused (404)  refused: 404")


async def test_a_call_is_worked_on_from_the_command_line(agent: Agent, operator: Desk, tmp_path: Path) -> None:
    async with callee(tmp_path) as (handset, uri):
        dialling = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "services.agent.cli", "--calls", agent.calls, "dial", uri, cwd=ROOT,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        await accept(handset)
        call_id = (await operator.first("call", state=calls_pb2.CALL_STATE_LIVE)).call_id
        status, (row,), _ = await run(agent, "list")
        assert (status, row.split()[:3]) == (0, [call_id, "live", "sip"])
        assert (await run(agent, "say", call_id, "We close soon."))[0] == 0
        assert (await run(agent, "dtmf", call_id, "5#"))[0] == 0
        status, _, errors = await run(agent, "dtmf", call_id, "x")
        assert (status, "INVALID_ARGUMENT" in errors) == (1, True)
        status, _, errors = await run(agent, "transfer", call_id, "nobody at all")
        assert (status, "FAILED_PRECONDITION" in errors) == (1, True)
        dialling.send_signal(signal.SIGINT)  # Ctrl-C
        output, _ = await asyncio.wait_for(dialling.communicate(), WAIT_S)
        assert dialling.returncode == 130
        assert output.decode().splitlines()[0] == call_id
        assert (await operator.ended(call_id)).end_reason == "hung up by the operator"
        await handset.wait_for("CALL_CLOSED", timeout_s=WAIT_S)
    status, _, errors = await run(agent, "hang-up", call_id)
    assert (status, errors) == (1, f"calls: error: no live call '{call_id}' (NOT_FOUND)\n")
