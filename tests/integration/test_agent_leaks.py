"""After its calls an agent holds nothing of them: no task, no call object, no slot, no LM session."""

import asyncio
import gc
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import grpc

from services.agent.app import start
from services.agent.call import Call
from services.agent.settings import AgentSettings
from services.agent.speech import Speech
from tests.integration.hangups import only_new_objects
from tests.integration.personas import short_persona
from tests.integration.stack import HOST, Stack, free_port
from tests.integration.webrtc_caller import calling, sample
from trunkline.v1 import lm_pb2, lm_pb2_grpc

CALLS = 3


async def until(condition: Callable[[], bool], what: Callable[[], object], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"left: {what()}"
        await asyncio.sleep(0.05)


def tasks() -> set[str]:
    """Names of the tasks of calls; aiortc's and gRPC's own come and go under other names."""
    names = {task.get_name() for task in asyncio.all_tasks()}
    ours = ("call-", "floor-", "player-", "utterance-", "recorder-", "pipeline-", "screen-", "lm-session-", "spoken-")
    return {name for name in names if name.startswith(ours) or "Processor" in name or "Transport" in name}


def living() -> list[object]:
    gc.collect()
    return [thing for thing in gc.get_objects() if issubclass(type(thing), Call | Speech)]


async def test_nothing_is_left_of_calls(tiny_stack: Stack, tmp_path: Path) -> None:
    http_port = free_port()
    settings = AgentSettings(
        tokenizer=tiny_stack.tokenizer,
        lm=tiny_stack.lm,
        decoder=tiny_stack.decoder,
        redis_url=tiny_stack.redis_url,
        sip_listen="",
        http_listen=f"{HOST}:{http_port}",
        calls_listen=f"{HOST}:0",
        capacity=2,
        personas=short_persona(tmp_path),
    )
    question = sample("address")
    async with AsyncExitStack() as stack:
        stack.enter_context(only_new_objects())
        await start(settings, stack)
        for number in range(CALLS):
            async with calling(f"http://{HOST}:{http_port}") as caller:
                await caller.until(lambda: bool(caller.of_type("bot-started-speaking")), "the greeting")
                assert tasks()
                assert living()
                if number:  # the first is hung up on in mid-greeting, the others in mid-turn and in mid-answer
                    caller.microphone.say(question)
                    wanted = "user-started-speaking" if number == 1 else "server-message"
                    await caller.until(lambda: bool(caller.of_type(wanted)), wanted)  # noqa: B023
        await until(lambda: not tasks(), tasks)
        await until(lambda: not living(), living)
        async with grpc.aio.insecure_channel(tiny_stack.lm) as channel:
            stub = lm_pb2_grpc.VoiceLMStub(channel)
            end = time.monotonic() + 60.0
            while (await stub.Info(lm_pb2.VoiceLMInfoRequest())).active:
                assert time.monotonic() < end, "LM sessions are left"
                await asyncio.sleep(0.05)
