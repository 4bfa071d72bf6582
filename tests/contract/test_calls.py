"""Calls over real gRPC, with live WebRTC calls behind it; the comments of calls.proto are what is tested."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from tests.integration.conftest import tiny_stack
from tests.integration.personas import short_persona
from tests.integration.stack import Agent, Stack
from tests.integration.webrtc_caller import Caller, calling
from trunkline.v1 import calls_pb2, calls_pb2_grpc

__all__ = ["tiny_stack"]

CAPACITY = 2
WAIT_S = 150.0


@pytest.fixture(scope="module")
def agent(tiny_stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    personas = short_persona(tmp_path_factory.mktemp("personas"), max_new_tokens=200)
    with tiny_stack.agent(capacity=CAPACITY, personas=personas) as agent:
        yield agent


@dataclass
class Desk:
    stub: "calls_pb2_grpc.CallsAsyncStub"
    channel: grpc.aio.Channel


@pytest.fixture
async def desk(agent: Agent) -> AsyncIterator[Desk]:
    async with grpc.aio.insecure_channel(agent.calls) as channel:
        desk = Desk(calls_pb2_grpc.CallsStub(channel), channel)
        yield desk
        while (await desk.stub.Info(calls_pb2.CallsInfoRequest())).active:  # the next test finds free slots
            await asyncio.sleep(0.05)


async def status_of(call: Awaitable[object]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call
    return error.value.code(), error.value.details() or ""


class Watch:
    """Reads one WatchCalls stream."""

    def __init__(self, desk: Desk, call_id: str = "") -> None:
        self.stream = desk.stub.WatchCalls(calls_pb2.WatchCallsRequest(call_id=call_id))
        self.seen: list[calls_pb2.WatchCallsResponse] = []

    async def until(self, field: str, state: int | None = None) -> calls_pb2.WatchCallsResponse:
        async with asyncio.timeout(WAIT_S):
            async for response in self.stream:
                self.seen.append(response)
                if response.HasField(field) and (state is None or response.call.state == state):  # type: ignore[arg-type]
                    return response
        raise AssertionError(f"the watch ended before {field}: {self.seen}")


async def test_info_health_and_reflection(desk: Desk) -> None:
    info = await desk.stub.Info(calls_pb2.CallsInfoRequest())
    assert (info.capacity, info.active, info.draining) == (CAPACITY, 0, False)
    assert info.agent_id
    health = await health_pb2_grpc.HealthStub(desk.channel).Check(
        health_pb2.HealthCheckRequest(service="trunkline.v1.Calls")
    )
    assert health.status == health_pb2.HealthCheckResponse.SERVING
    reflection = reflection_pb2_grpc.ServerReflectionStub(desk.channel)

    async def ask() -> AsyncIterator[reflection_pb2.ServerReflectionRequest]:
        yield reflection_pb2.ServerReflectionRequest(list_services="")

    async for answer in reflection.ServerReflectionInfo(ask()):
        assert "trunkline.v1.Calls" in [service.name for service in answer.list_services_response.service]


async def test_a_call_is_listed_and_watched_from_ringing_to_its_end(desk: Desk, agent: Agent) -> None:
    everything = Watch(desk)
    async with calling(agent.page) as caller:
        await everything.until("call", calls_pb2.CALL_STATE_LIVE)
        assert [response.call.state for response in everything.seen if response.HasField("call")] == [
            calls_pb2.CALL_STATE_RINGING,
            calls_pb2.CALL_STATE_LIVE,
        ]
        (listed,) = (await desk.stub.ListCalls(calls_pb2.ListCallsRequest())).calls
        assert listed.call_id == caller.call_id
        assert (listed.leg, listed.state, listed.persona) == (
            calls_pb2.LEG_WEBRTC,
            calls_pb2.CALL_STATE_LIVE,
            "default",
        )
        assert getattr(listed, "from").startswith("web:")
        assert (await desk.stub.Info(calls_pb2.CallsInfoRequest())).active == 1
        mine = Watch(desk, caller.call_id)
        first = await mine.until("call")
        assert first.call.state == calls_pb2.CALL_STATE_LIVE
    ended = await mine.until("call", calls_pb2.CALL_STATE_ENDED)
    assert ended.call.end_reason == "the caller hung up"
    assert [later async for later in mine.stream] == [], "the watch of a call ends with it"
    assert (await desk.stub.ListCalls(calls_pb2.ListCallsRequest())).calls == []


async def test_say_is_heard_as_captions_and_turns(desk: Desk, agent: Agent) -> None:
    async with calling(agent.page) as caller:
        watch = Watch(desk, caller.call_id)
        await desk.stub.Say(calls_pb2.SayRequest(call_id=caller.call_id, text="We close in  ten minutes."))
        said = ""
        while said.count("minutes.") < 1:
            said += (await watch.until("caption")).caption.text
        assert said.endswith("We close in ten minutes.")
        spoken = (await watch.until("spoken")).spoken
        while not (spoken.done and spoken.answer == 2):  # the greeting was the first
            spoken = (await watch.until("spoken")).spoken
        assert (spoken.text, spoken.interrupted) == ("We close in ten minutes.", False)
        quality = (await watch.until("quality")).quality
        assert quality.received.packets > 0
        await caller.until(lambda: "We close in ten minutes." in caller.captions(), "the page shows it")


async def test_hang_up_ends_the_call_and_frees_its_slot(desk: Desk, agent: Agent) -> None:
    async with calling(agent.page) as caller:
        watch = Watch(desk, caller.call_id)
        await watch.until("call", calls_pb2.CALL_STATE_LIVE)
        await desk.stub.HangUp(calls_pb2.HangUpRequest(call_id=caller.call_id))
        ended = await watch.until("call", calls_pb2.CALL_STATE_ENDED)
        assert ended.call.end_reason == "hung up by the operator"
        assert (await desk.stub.Info(calls_pb2.CallsInfoRequest())).active == 0
        await asyncio.wait_for(caller.closed.wait(), WAIT_S)


@pytest.mark.parametrize("method", ["HangUp", "Transfer", "Say", "SendDtmf"])
async def test_an_unknown_call_is_not_found(desk: Desk, method: str) -> None:
    request = {
        "HangUp": calls_pb2.HangUpRequest(call_id="nobody"),
        "Transfer": calls_pb2.TransferRequest(call_id="nobody", target="sip:a@b"),
        "Say": calls_pb2.SayRequest(call_id="nobody", text="hello"),
        "SendDtmf": calls_pb2.SendDtmfRequest(call_id="nobody", digits="1"),
    }[method]
    code, detail = await status_of(getattr(desk.stub, method)(request))
    assert code is grpc.StatusCode.NOT_FOUND
    assert "'nobody'" in detail


async def test_watching_an_unknown_call_is_not_found(desk: Desk) -> None:
    stream = desk.stub.WatchCalls(calls_pb2.WatchCallsRequest(call_id="nobody"))
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await stream.read()
    assert error.value.code() is grpc.StatusCode.NOT_FOUND


async def test_bad_requests_say_what_is_allowed(desk: Desk, agent: Agent) -> None:
    async with calling(agent.page) as caller:
        await caller.until(lambda: bool(caller.messages), "media")
        call_id = caller.call_id
        code, detail = await status_of(desk.stub.Say(calls_pb2.SayRequest(call_id=call_id, text="  ")))
        assert (code, "1 to 500" in detail) == (grpc.StatusCode.INVALID_ARGUMENT, True)
        code, _ = await status_of(desk.stub.Say(calls_pb2.SayRequest(call_id=call_id, text="x" * 501)))
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        code, detail = await status_of(desk.stub.SendDtmf(calls_pb2.SendDtmfRequest(call_id=call_id, digits="12x")))
        assert (code, "'12x'" in detail) == (grpc.StatusCode.INVALID_ARGUMENT, True)
        code, _ = await status_of(desk.stub.Transfer(calls_pb2.TransferRequest(call_id=call_id, target=" ")))
        assert code is grpc.StatusCode.INVALID_ARGUMENT


async def test_what_a_leg_cannot_do_is_a_failed_precondition(desk: Desk, agent: Agent) -> None:
    async with calling(agent.page) as caller:
        await caller.until(lambda: bool(caller.messages), "media")
        code, detail = await status_of(
            desk.stub.Transfer(calls_pb2.TransferRequest(call_id=caller.call_id, target="sip:a@example.com"))
        )
        assert (code, "WebRTC" in detail) == (grpc.StatusCode.FAILED_PRECONDITION, True)
        watch = Watch(desk, caller.call_id)
        await watch.until("call")  # from here on it misses nothing
        with pytest.raises(grpc.aio.AioRpcError):
            await desk.stub.Transfer(calls_pb2.TransferRequest(call_id=caller.call_id, target="sip:a@example.com"))
        outcomes = [(await watch.until("transfer")).transfer.outcome for _ in range(2)]
        assert outcomes == [calls_pb2.TRANSFER_OUTCOME_STARTED, calls_pb2.TRANSFER_OUTCOME_FAILED]
        code, _ = await status_of(desk.stub.SendDtmf(calls_pb2.SendDtmfRequest(call_id=caller.call_id, digits="12#")))
        assert code is grpc.StatusCode.FAILED_PRECONDITION
    code, detail = await status_of(desk.stub.Dial(calls_pb2.DialRequest(target="sip:a@example.com")))
    assert (code, "no phone line" in detail) == (grpc.StatusCode.FAILED_PRECONDITION, True)


async def test_stopping_ends_calls_and_says_so(tiny_stack: Stack, tmp_path: Path) -> None:
    with tiny_stack.agent(capacity=1, personas=short_persona(tmp_path)) as own:
        caller = Caller(own.page)
        await caller.call()
        async with grpc.aio.insecure_channel(own.calls) as channel:
            watch = Watch(Desk(calls_pb2_grpc.CallsStub(channel), channel), caller.call_id)
            await watch.until("call", calls_pb2.CALL_STATE_LIVE)
            stopping = asyncio.create_task(asyncio.to_thread(own.process.stop))
            ended = await watch.until("call", calls_pb2.CALL_STATE_ENDED)
            assert ended.call.end_reason == "the agent stopped"
            assert await stopping == 0
        await asyncio.wait_for(caller.closed.wait(), WAIT_S)
        await caller.hang_up()
