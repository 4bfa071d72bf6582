"""An agent that is told to stop: it takes no new calls, and those it has go on to their own end."""

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path

import grpc
import httpx
import pytest

from loadtest.sip.wire import acknowledgement, caller
from services.agent.legs.sip_settings import Trunk
from tests.contract.test_calls import Desk, Watch
from tests.integration.line_bots import Whistler, sip_workers
from tests.integration.personas import short_persona
from tests.integration.sip_bots import until
from tests.integration.sipp_runs import sipp_callee
from tests.integration.stack import Agent, Stack
from tests.integration.webrtc_caller import Caller, calling, sample
from trunkline.v1 import calls_pb2, calls_pb2_grpc

LONG_S = 3600.0
WAIT_S = 120.0


async def drains(agent: Agent) -> None:
    """SIGTERM, and until the agent has taken note of it."""
    os.kill(agent.process.pid, signal.SIGTERM)
    async with httpx.AsyncClient() as client, asyncio.timeout(WAIT_S):
        while (answer := await client.get(f"{agent.page}/readyz")).status_code != 503:
            await asyncio.sleep(0.02)
    assert answer.text == "draining"


async def test_a_live_call_goes_on_while_new_ones_are_refused(tiny_stack: Stack, tmp_path: Path) -> None:
    personas = short_persona(tmp_path)
    options = ("--resume-seconds", "300")
    with tiny_stack.agent(2, personas, True, *options, drain_s=LONG_S) as agent:
        async with calling(agent.page) as talker:
            await talker.bot_is_quiet()
            await drains(agent)
            async with caller(agent.sip_port) as late:
                late.invite()
                refusal = await late.response("INVITE", 200, 486, 503, timeout_s=WAIT_S)
                late.send_raw(acknowledgement(refusal))
            assert (refusal.status, 1 <= int(refusal.header("Retry-After")) <= 15) == (503, True)
            with pytest.raises(httpx.HTTPStatusError) as refused:
                await Caller(agent.page).call()
            assert refused.value.response.status_code == 503
            assert int(refused.value.response.headers["Retry-After"]) > 0
            async with grpc.aio.insecure_channel(agent.calls) as channel:
                stub: calls_pb2_grpc.CallsAsyncStub = calls_pb2_grpc.CallsStub(channel)
                info = await stub.Info(calls_pb2.CallsInfoRequest())
                assert (info.draining, info.active) == (True, 1)
                watch = Watch(Desk(stub, channel), talker.call_id)
                talker.microphone.say(sample("opening-hours"))
                await talker.until(lambda: len(talker.latencies()) >= 1, "an answer in a drain")
                await talker.vanish()
                talker.messages.clear()
                await talker.come_back()  # a page that is reloaded finds its call
                await talker.until(lambda: bool(talker.messages), "its screen")
                await talker.hang_up()
                ended = await watch.until("call", calls_pb2.CALL_STATE_ENDED)
                assert ended.call.end_reason == "the caller hung up"
        assert await asyncio.to_thread(agent.process.wait, WAIT_S) == 0, "it leaves by itself"


async def test_callers_are_told_before_the_end_and_a_second_signal_is_the_end(
    tiny_stack: Stack, tmp_path: Path
) -> None:
    personas = short_persona(tmp_path)
    with (personas / "default.yaml").open("a") as persona:
        persona.write("closing: Goodbye now.\n")
    options = ("--drain-notice-seconds", "600")
    with tiny_stack.agent(1, personas, False, *options, drain_s=600.0) as agent:
        talker = Caller(agent.page)
        await talker.call()
        async with grpc.aio.insecure_channel(agent.calls) as channel:
            watch = Watch(Desk(calls_pb2_grpc.CallsStub(channel), channel), talker.call_id)
            await talker.bot_is_quiet()
            spoken = len(talker.of_type("bot-stopped-speaking"))
            await drains(agent)
            await talker.until(lambda: "Goodbye now." in talker.captions(), "the notice")
            await talker.until(lambda: len(talker.of_type("bot-stopped-speaking")) > spoken, "it is heard to its end")
            os.kill(agent.process.pid, signal.SIGINT)
            ended = await watch.until("call", calls_pb2.CALL_STATE_ENDED)
            assert ended.call.end_reason == "the agent stopped"
        assert await asyncio.to_thread(agent.process.wait, WAIT_S) == 0
        await talker.hang_up()


async def test_the_end_of_its_time_ends_the_calls_that_are_left(tiny_stack: Stack, tmp_path: Path) -> None:
    with tiny_stack.agent(capacity=1, personas=short_persona(tmp_path), sip=True, drain_s=0.5) as agent:
        async with caller(agent.sip_port) as talker:
            talker.invite()
            await talker.response("INVITE", 200, timeout_s=WAIT_S)
            talker.request("ACK")
            await talker.listen(0.2)
            os.kill(agent.process.pid, signal.SIGTERM)
            async with asyncio.timeout(WAIT_S):
                while not any(line.startswith("BYE") for line in talker.requests_so_far()):
                    await talker.listen(0.1)
        assert await asyncio.to_thread(agent.process.wait, WAIT_S) == 0


async def test_registrations_are_taken_back_first_and_calls_stay(require_debian: Callable[..., None]) -> None:
    require_debian("sip-tester")
    bot = Whistler()
    async with sipp_callee("registrar_leave", must_succeed=True) as uri:
        trunk = Trunk("provider", uri.partition("@")[2], "alice", "correct horse", expires_s=60)
        async with sip_workers(bot, trunks=(trunk,)) as lines, caller(lines.ports[0]) as talker:
            await talker.answered()
            await lines.withdraw()
            await until(lambda: len(bot.live()) == 1)
            assert len(await talker.listen(0.3)) > 0
            assert not talker.requests_so_far()
            await lines.withdraw()
