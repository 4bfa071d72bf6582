"""Dial, GetCall and what a watch promises, over real gRPC; the comments of calls.proto are what is tested."""

from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest

from tests.contract.test_calls import status_of
from tests.integration.callees import desk, sipp_callee
from tests.integration.conftest import tiny_stack
from tests.integration.personas import short_persona
from tests.integration.stack import Agent, Stack, free_again
from trunkline.v1 import calls_pb2

__all__ = ["tiny_stack"]

NOWHERE = "sip:ann@nowhere.invalid"


@pytest.fixture(scope="module")
def agent(
    tiny_stack: Stack, tmp_path_factory: pytest.TempPathFactory, require_debian: Callable[..., None]
) -> Iterator[Agent]:
    require_debian("sip-tester")
    personas = short_persona(tmp_path_factory.mktemp("personas"), max_new_tokens=40)
    with tiny_stack.agent(1, personas, True, "--ring-timeout", "1") as running:
        yield running


@pytest.mark.parametrize(
    ("request_", "allowed"),
    [
        ({"target": "ann"}, "SIP URI"),
        ({"target": ""}, "SIP URI"),
        ({"target": NOWHERE, "persona": "nobody"}, "there are: default"),
        ({"target": NOWHERE, "ring_timeout_s": 0.5}, "1 to 180 s"),
        ({"target": NOWHERE, "ring_timeout_s": -1}, "1 to 180 s"),
        ({"target": NOWHERE, "greet_after_s": 60}, "0.2 to 10 s"),
        ({"target": NOWHERE, "on_machine": 9}, "0 to 3"),
        ({"target": NOWHERE, "on_machine": calls_pb2.ON_MACHINE_LEAVE_TEXT, "machine_text": " "}, "1 to 500"),
        ({"target": NOWHERE, "machine_text": "Hello."}, "nothing else takes one"),
    ],
)
async def test_an_unusable_dial_is_refused_with_what_is_allowed(
    agent: Agent, request_: dict[str, object], allowed: str
) -> None:
    async with desk(agent.calls) as operator:
        code, detail = await status_of(operator.stub.Dial(calls_pb2.DialRequest(**request_)))  # type: ignore[arg-type]
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert allowed in detail
        assert (await operator.stub.Info(calls_pb2.CallsInfoRequest())).active == 0, "no slot is lost by it"


async def test_an_unknown_call_is_not_found(agent: Agent) -> None:
    async with desk(agent.calls) as operator:
        code, detail = await status_of(operator.stub.GetCall(calls_pb2.GetCallRequest(call_id="nobody")))
    assert (code, "'nobody'" in detail) == (grpc.StatusCode.NOT_FOUND, True)


async def test_a_placed_call_is_told_from_ringing_to_its_end_and_asked_for_after_it(
    agent: Agent, tmp_path: Path
) -> None:
    async with desk(agent.calls) as operator, sipp_callee(tmp_path, "rings.xml") as uri:
        call_id = await operator.dial(uri)
        ringing = (await operator.stub.GetCall(calls_pb2.GetCallRequest(call_id=call_id))).call
        assert (ringing.state, ringing.placed, ringing.to) == (calls_pb2.CALL_STATE_RINGING, True, uri)
        assert ringing.outcome == calls_pb2.DIAL_OUTCOME_UNSPECIFIED
        ended = await operator.ended(call_id)  # after the agent's own ring timeout
        assert (ended.outcome, ended.sip_status) == (calls_pb2.DIAL_OUTCOME_NO_ANSWER, 0)
        await free_again(agent)
        later = (await operator.stub.GetCall(calls_pb2.GetCallRequest(call_id=call_id))).call
        assert later == ended


async def test_a_call_refused_at_once_is_seen_by_who_watched_before(agent: Agent) -> None:
    async with desk(agent.calls) as operator:
        call_id = await operator.dial(NOWHERE)
        ended = await operator.ended(call_id)
        assert ended.outcome == calls_pb2.DIAL_OUTCOME_UNREACHABLE
        states = [event.call.state for event in operator.events if event.call_id == call_id and event.HasField("call")]
        assert states == [calls_pb2.CALL_STATE_RINGING, calls_pb2.CALL_STATE_ENDED]
    await free_again(agent)
