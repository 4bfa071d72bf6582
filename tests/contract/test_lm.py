"""VoiceLM over real gRPC, on a tiny random checkpoint; the comments of lm.proto are what is tested."""

import asyncio
import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
import torch
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.common.grpc_server import Server, Slots
from services.lm import weights
from services.lm.prompt import ChatTemplate
from services.lm.servicer import SERVICE, VoiceLMServicer
from services.lm.torch_engine import parameters
from services.lm.torch_engine.cache import BlockPool
from services.lm.torch_engine.engine import TorchEngine
from services.lm.torch_engine.parameters import Parameters
from services.lm.torch_engine.planning import Chunks
from services.lm.torch_engine.runner import Runner
from services.lm.torch_engine.scheduler import Scheduler
from tests.unit.lm.checkpoint import CODEBOOK, write_checkpoint
from trunkline.v1 import lm_pb2, lm_pb2_grpc

CAPACITY = 4
CONTEXT = 1024
CHUNKS = Chunks(answering=24, silent=256)
ABORTED = 200
LONG = "z" * 300  # to be said: hundreds of steps, however the random model behaves
TEXT, SPEECH, CONTROL = lm_pb2.TOKEN_KIND_TEXT, lm_pb2.TOKEN_KIND_SPEECH, lm_pb2.TOKEN_KIND_CONTROL


@dataclass
class Service:
    stub: "lm_pb2_grpc.VoiceLMAsyncStub"
    scheduler: Scheduler
    pool: BlockPool
    template: ChatTemplate
    server: Server
    slots: Slots
    channel: grpc.aio.Channel

    def raw(self) -> Any:
        """A stream of bytes, whatever they mean."""
        return self.channel.stream_stream(f"/{SERVICE}/Converse")()


@pytest.fixture(scope="session")
def checkpoint_dir(tmp_path_factory: pytest.TempPathFactory, golden_dir: Path) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("lm-contract") / "weights", golden_dir, CONTEXT)


@pytest.fixture(scope="session")
def network(checkpoint_dir: Path) -> Parameters:
    return parameters.load(weights.inspect(checkpoint_dir), torch.float32)


@contextlib.asynccontextmanager
async def serving(directory: Path, network: Parameters, kv_tokens: int) -> AsyncIterator[Service]:
    template, checkpoint = ChatTemplate.load(directory), weights.inspect(directory)
    runner = Runner(network, kv_tokens)
    scheduler = Scheduler(runner, template, CONTEXT, checkpoint.architecture.end_tokens, CHUNKS)
    engine = TorchEngine(scheduler)
    slots = Slots(CAPACITY, "language model sessions")
    servicer = VoiceLMServicer(engine, template, slots, checkpoint.revision, engine.kv_tokens)
    server = Server(SERVICE, lambda s: lm_pb2_grpc.add_VoiceLMServicer_to_server(servicer, s), "127.0.0.1:0", slots)
    port = await server.start()
    options = [("grpc.max_send_message_length", -1)]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
        yield Service(lm_pb2_grpc.VoiceLMStub(channel), scheduler, runner.pool, template, server, slots, channel)
    await server.drain(0)
    engine.stop()


@pytest.fixture
async def service(checkpoint_dir: Path, network: Parameters) -> AsyncIterator[Service]:
    async with serving(checkpoint_dir, network, CAPACITY * CONTEXT) as running:
        yield running


@pytest.fixture
async def cramped(checkpoint_dir: Path, network: Parameters) -> AsyncIterator[Service]:
    """Memory for one full session only."""
    async with serving(checkpoint_dir, network, CONTEXT) as running:
        yield running


class Talk:
    """One stream, spoken to in commands."""

    def __init__(self, service: Service) -> None:
        self.call = service.stub.Converse()
        self.tokens: list[int] = []

    async def send(self, **command: object) -> None:
        await self.call.write(lm_pb2.ConverseRequest(**command))  # type: ignore[arg-type]

    async def receive(self) -> lm_pb2.ConverseResponse:
        response = await self.call.read()
        if response is grpc.aio.EOF:
            raise AssertionError(f"stream ended: {await self.call.code()} {await self.call.details()}")
        assert isinstance(response, lm_pb2.ConverseResponse)
        event = getattr(response, str(response.WhichOneof("event")))
        if response.HasField("appended") or response.HasField("generated"):
            self.tokens += event.tokens
        if response.HasField("truncated"):
            del self.tokens[event.length :]
        assert event.length == len(self.tokens)
        return response

    async def open(self, tokens: Sequence[int] = ()) -> "Talk":
        self.tokens = list(tokens)
        await self.send(open=lm_pb2.OpenSession(session_id="test", tokens=tokens))
        assert (await self.receive()).HasField("opened")
        return self

    async def append(self, **part: object) -> list[int]:
        await self.send(append=lm_pb2.Append(**part))  # type: ignore[arg-type]
        response = await self.receive()
        assert response.HasField("appended")
        return list(response.appended.tokens)

    async def speak(self, *pieces: Sequence[int]) -> None:
        for piece in pieces:
            await self.append(user_speech=lm_pb2.SpeechTokens(tokens=piece))
        await self.append(end_of_speech=lm_pb2.EndOfSpeech())

    async def rest(self) -> tuple[list[lm_pb2.Generated], lm_pb2.Finished]:
        """The events of an answer up to its end."""
        events = []
        while (response := await self.receive()).HasField("generated"):
            events.append(response.generated)
        assert response.HasField("finished")
        return events, response.finished

    async def generate(self, **settings: object) -> tuple[list[lm_pb2.Generated], lm_pb2.Finished]:
        await self.send(generate=lm_pb2.Generate(**settings))  # type: ignore[arg-type]
        return await self.rest()

    async def status(self) -> tuple[grpc.StatusCode, str]:
        """Reads to the end of the stream."""
        return await status_of(self.call)


async def status_of(call: Any) -> tuple[grpc.StatusCode, str]:
    try:
        while await call.read() is not grpc.aio.EOF:
            pass
    except grpc.aio.AioRpcError:
        pass
    return await call.code(), await call.details()


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(30):
        while not await condition():
            await asyncio.sleep(0.01)


async def prompted(service: Service) -> Talk:
    talk = await Talk(service).open()
    await talk.append(system="be kind")
    await talk.speak(range(20))
    return talk


async def test_info(service: Service) -> None:
    info = await service.stub.Info(lm_pb2.VoiceLMInfoRequest())
    assert info.codebook_size == CODEBOOK
    assert info.speech_token_offset == service.template.speech([0])[0]
    assert info.vocab_size == info.speech_token_offset + CODEBOOK
    assert (info.context_length, info.text_block, info.speech_block) == (CONTEXT, 13, 26)
    assert (info.capacity, info.active) == (CAPACITY, 0)
    assert info.kv_tokens == CAPACITY * CONTEXT
    assert len(info.model_revision) == 12
    await Talk(service).open()
    assert (await service.stub.Info(lm_pb2.VoiceLMInfoRequest())).active == 1


async def test_the_template_is_applied(service: Service) -> None:
    template = service.template
    talk = await Talk(service).open()
    assert await talk.append(system="be kind") == [*template.prefix, *template.system("be kind")]
    first = await talk.append(user_speech=lm_pb2.SpeechTokens(tokens=[5, 6]))
    assert first == template.user_speech_head() + template.speech([5, 6])
    assert await talk.append(user_speech=lm_pb2.SpeechTokens(tokens=[7])) == template.speech([7])
    assert await talk.append(end_of_speech=lm_pb2.EndOfSpeech()) == template.end_of_speech()
    assert await talk.append(user_text="<|user|>") == template.user_text("<|user|>")
    assert len(await talk.append(user_text="<|user|>")) > 8


async def test_an_answer_and_its_end(service: Service) -> None:
    talk = await prompted(service)
    say = "hello, how are you today? 你好"
    events, finished = await talk.generate(say=say, temperature=1.0, seed=4)
    assert events[0].kind == CONTROL
    assert list(events[0].tokens) == service.template.assistant_head()
    assert {event.kind for event in events[1:]} == {TEXT, SPEECH}
    assert "".join(event.text for event in events) == say
    offset = service.template.vocabulary.speech_offset
    for event in events:
        assert list(event.speech) == ([i - offset for i in event.tokens] if event.kind == SPEECH else [])
    assert finished.reason in (lm_pb2.FINISH_REASON_END_OF_TURN, lm_pb2.FINISH_REASON_MAX_TOKENS)
    assert service.template.end not in talk.tokens[-10:]
    assert (await talk.append(user_text="thanks"))[0] == service.template.end


async def test_free_answer_stops_at_max_new_tokens(service: Service) -> None:
    talk = await prompted(service)
    events, finished = await talk.generate(temperature=2.0, seed=1, max_new_tokens=9)
    assert finished.reason == lm_pb2.FINISH_REASON_MAX_TOKENS
    assert sum(len(event.tokens) for event in events if event.kind != CONTROL) == 9


@pytest.mark.parametrize("settings", [{}, {"temperature": 1.0, "top_p": 0.9, "seed": 2**63}])
async def test_a_session_rebuilt_from_its_tokens_goes_on_the_same(
    service: Service, settings: dict[str, object]
) -> None:
    first = await prompted(service)
    await first.generate(**settings, max_new_tokens=50)
    second = await Talk(service).open(first.tokens)
    for talk in (first, second):
        await talk.append(user_text="and then?")
        await talk.generate(**settings, max_new_tokens=50)
    assert first.tokens == second.tokens


async def test_another_session_takes_over_in_mid_answer(service: Service) -> None:
    settings: dict[str, object] = {"temperature": 1.0, "seed": 8, "say": "héllo wörld, hello world"}
    first = await prompted(service)
    start = len(first.tokens)
    events, _ = await first.generate(**settings)
    for cut in (start + len(service.template.assistant_head()) + 2, start + 40, len(first.tokens)):
        second = await Talk(service).open(first.tokens[:cut])
        rest, _ = await second.generate(**settings, resume=True)
        assert second.tokens == first.tokens
        whole = "".join(event.text for event in events)
        assert whole.endswith("".join(event.text for event in rest))
        await second.send(close=lm_pb2.CloseSession())
        assert (await second.status())[0] is grpc.StatusCode.OK


async def test_sessions_at_once_are_as_alone(service: Service) -> None:
    async def converse(seed: int) -> list[int]:
        talk = await Talk(service).open()
        await talk.append(system=f"persona {seed}")
        for turn in range(2):
            await talk.speak(range(seed, 30 + seed), range(turn, 9))
            await talk.generate(temperature=1.0, seed=seed, max_new_tokens=60)
        await talk.send(close=lm_pb2.CloseSession())
        assert (await talk.status())[0] is grpc.StatusCode.OK
        return talk.tokens

    alone = [await converse(seed) for seed in range(CAPACITY)]
    together = await asyncio.gather(*(converse(seed) for seed in range(CAPACITY)))
    assert together == alone


async def test_cancel_in_mid_answer(service: Service) -> None:
    talk = await prompted(service)
    await talk.send(generate=lm_pb2.Generate(say=LONG))
    for _ in range(5):
        assert (await talk.receive()).HasField("generated")
    await talk.send(cancel=lm_pb2.CancelGeneration())
    _, finished = await talk.rest()
    assert finished.reason == lm_pb2.FINISH_REASON_CANCELLED
    assert finished.length < 400
    await talk.send(cancel=lm_pb2.CancelGeneration())
    await talk.append(user_text="stop")


async def test_truncate_in_mid_answer(service: Service) -> None:
    talk = await prompted(service)
    length = len(talk.tokens) + len(service.template.assistant_head()) + 15
    await talk.send(generate=lm_pb2.Generate(say=LONG))
    while len(talk.tokens) < length + 5:
        await talk.receive()
    await talk.send(truncate=lm_pb2.Truncate(length=length))
    _, finished = await talk.rest()
    assert finished.reason == lm_pb2.FINISH_REASON_CANCELLED
    assert (await talk.receive()).truncated.length == length
    fresh = await Talk(service).open(talk.tokens)
    for each in (talk, fresh):
        await each.append(user_text="again")
        await each.generate(max_new_tokens=30)
    assert talk.tokens == fresh.tokens


async def test_truncation_within_user_speech_leaves_the_turn_open(service: Service) -> None:
    talk = await Talk(service).open()
    await talk.append(user_speech=lm_pb2.SpeechTokens(tokens=[1, 2, 3]))
    await talk.send(truncate=lm_pb2.Truncate(length=len(talk.tokens) - 2))
    assert (await talk.receive()).HasField("truncated")
    assert await talk.append(user_speech=lm_pb2.SpeechTokens(tokens=[9])) == service.template.speech([9])


async def test_client_that_has_said_all_gets_its_answer(service: Service) -> None:
    talk = await prompted(service)
    await talk.send(generate=lm_pb2.Generate(say="hello world"))
    await talk.call.done_writing()
    _, finished = await talk.rest()
    assert finished.reason != lm_pb2.FINISH_REASON_CANCELLED
    assert (await talk.status())[0] is grpc.StatusCode.OK


async def test_close_ends_the_stream_in_mid_answer(service: Service) -> None:
    talk = await prompted(service)
    await talk.send(generate=lm_pb2.Generate(say=LONG))
    await talk.receive()
    await talk.send(close=lm_pb2.CloseSession())
    assert (await talk.status())[0] is grpc.StatusCode.OK
    await until(lambda: idle(service))


async def test_full_context(service: Service) -> None:
    talk = await Talk(service).open([65] * 900)
    _, finished = await talk.generate(say=LONG)
    assert finished.reason == lm_pb2.FINISH_REASON_CONTEXT_FULL
    assert finished.length == CONTEXT
    await talk.send(append=lm_pb2.Append(user_text="more"))
    code, details = await talk.status()
    assert code is grpc.StatusCode.OUT_OF_RANGE
    assert "the context holds 1024" in details


@pytest.mark.parametrize(
    ("command", "code", "message"),
    [
        ({}, "INVALID_ARGUMENT", "holds no command"),
        ({"open": lm_pb2.OpenSession()}, "FAILED_PRECONDITION", "open already"),
        ({"append": lm_pb2.Append()}, "INVALID_ARGUMENT", "holds no part"),
        (
            {"append": lm_pb2.Append(user_speech=lm_pb2.SpeechTokens(tokens=[0, 512]))},
            "INVALID_ARGUMENT",
            "speech token 512 is out of range; allowed are 0 to 511",
        ),
        ({"append": lm_pb2.Append(end_of_speech=lm_pb2.EndOfSpeech())}, "FAILED_PRECONDITION", "no user turn"),
        ({"append": lm_pb2.Append(user_text="x" * 70000)}, "INVALID_ARGUMENT", "too long"),
        ({"append": lm_pb2.Append(user_text="x" * 2000)}, "OUT_OF_RANGE", "do not fit"),
        ({"generate": lm_pb2.Generate(temperature=-1)}, "INVALID_ARGUMENT", "temperature"),
        ({"generate": lm_pb2.Generate(temperature=float("nan"))}, "INVALID_ARGUMENT", "temperature"),
        ({"generate": lm_pb2.Generate(top_p=1.5)}, "INVALID_ARGUMENT", "top_p 1.5 is out of range; allowed are 0 to 1"),
        ({"generate": lm_pb2.Generate(resume=True)}, "FAILED_PRECONDITION", "does not end in an answer"),
        ({"truncate": lm_pb2.Truncate(length=99)}, "INVALID_ARGUMENT", "truncate to 99: the session has"),
    ],
)
async def test_bad_commands(service: Service, command: dict[str, object], code: str, message: str) -> None:
    talk = await Talk(service).open()
    await talk.append(system="x")
    await talk.send(**command)
    status, details = await talk.status()
    assert status.name == code
    assert message in details
    await until(lambda: idle(service))


@pytest.mark.parametrize("command", ["append", "generate"])
async def test_commands_that_must_wait_for_the_answer(service: Service, command: str) -> None:
    talk = await prompted(service)
    await talk.send(generate=lm_pb2.Generate(say=LONG))
    await talk.receive()
    await talk.send(**{command: {"append": lm_pb2.Append(user_text="hey"), "generate": lm_pb2.Generate()}[command]})
    code, details = await talk.status()
    assert code is grpc.StatusCode.FAILED_PRECONDITION
    assert details == f"{command} while an answer is being generated; cancel or truncate first"


@pytest.mark.parametrize(
    "command",
    [{"append": lm_pb2.Append(user_text="a")}, {"append": lm_pb2.Append(system="a")}, {"generate": lm_pb2.Generate()}],
)
async def test_an_open_user_turn_must_be_closed_first(service: Service, command: dict[str, object]) -> None:
    talk = await Talk(service).open()
    await talk.append(user_speech=lm_pb2.SpeechTokens(tokens=[1]))
    await talk.send(**command)
    code, details = await talk.status()
    assert code is grpc.StatusCode.FAILED_PRECONDITION
    assert "a user turn of speech is open; close it with end_of_speech" in details


async def test_first_command_must_be_open(service: Service) -> None:
    talk = Talk(service)
    await talk.send(append=lm_pb2.Append(system="x"))
    code, details = await talk.status()
    assert code is grpc.StatusCode.FAILED_PRECONDITION
    assert details == "the first command must be open, not append"


async def test_empty_session_cannot_answer(service: Service) -> None:
    talk = await Talk(service).open()
    await talk.send(generate=lm_pb2.Generate())
    code, details = await talk.status()
    assert code is grpc.StatusCode.FAILED_PRECONDITION
    assert "the session is empty" in details


async def test_unknown_ids_cannot_be_opened(service: Service) -> None:
    talk = Talk(service)
    await talk.send(open=lm_pb2.OpenSession(tokens=[5, 5000]))
    code, details = await talk.status()
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "token 5000 is not of the vocabulary" in details


async def test_one_too_many_is_refused_and_a_freed_slot_is_given_again(service: Service) -> None:
    talks = [await Talk(service).open() for _ in range(CAPACITY)]
    refused = Talk(service)
    code, details = await refused.status()
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "all 4 language model sessions are taken" in details
    talks[0].call.cancel()
    await until(lambda: active(service, CAPACITY - 1))
    await Talk(service).open()


async def test_draining_service_takes_no_new_session_and_lets_the_old_one_finish(service: Service) -> None:
    talk = await prompted(service)
    await talk.send(generate=lm_pb2.Generate(say="hello world"))
    await talk.receive()
    service.slots.draining = True
    code, details = await Talk(service).status()
    assert code is grpc.StatusCode.UNAVAILABLE
    assert "draining" in details
    _, finished = await talk.rest()
    assert finished.reason != lm_pb2.FINISH_REASON_CANCELLED


async def test_clients_that_vanish_leave_nothing_behind(service: Service) -> None:
    """Streams aborted at random moments: while opening, while speaking, in mid-answer, or after it."""
    chance = random.Random(20)
    await until(lambda: idle(service))
    tasks_before = tasks()
    threads_before = set(threading.enumerate())
    outcomes: Counter[str] = Counter()

    async def vanish(steps: int, patience: int) -> None:
        talk = Talk(service)
        conversing = asyncio.create_task(converse(talk, steps))
        try:
            for _ in range(patience):
                await asyncio.sleep(0)
                if conversing.done():
                    break
        finally:
            talk.call.cancel()
            conversing.cancel()
            (outcome,) = await asyncio.gather(conversing, return_exceptions=True)
            outcomes[type(outcome).__name__] += 1

    async def converse(talk: Talk, steps: int) -> None:
        await talk.open()
        await talk.append(system="x" * 40)
        await talk.append(user_speech=lm_pb2.SpeechTokens(tokens=range(50)))
        await talk.append(end_of_speech=lm_pb2.EndOfSpeech())
        await talk.send(generate=lm_pb2.Generate(say=LONG, temperature=1.0))
        for _ in range(steps):
            await talk.receive()

    async with asyncio.timeout(200):
        limit = asyncio.Semaphore(CAPACITY)

        async def one() -> None:
            async with limit:
                await vanish(chance.randrange(1, 60), int(2 ** chance.uniform(0, 10)))
                # its slot is free a moment later
                await until(lambda: room(service))

        await asyncio.gather(*(one() for _ in range(ABORTED)))
    assert outcomes.total() == ABORTED
    assert outcomes["CancelledError"] > ABORTED / 4
    await until(lambda: idle(service))

    async def no_new_tasks() -> bool:
        return not tasks() - tasks_before

    await until(no_new_tasks)
    assert set(threading.enumerate()) <= threads_before


def tasks() -> "Counter[str]":
    """The loop's tasks by name of their coroutine: gRPC's own, which wait for the next call, are renewed at each."""
    return Counter(str(getattr(task.get_coro(), "__qualname__", task)) for task in asyncio.all_tasks())


async def room(service: Service) -> bool:
    return service.slots.active < CAPACITY


async def test_idle_sessions_lend_their_memory_and_go_on_as_if_they_had_not(cramped: Service) -> None:
    async def converse(talk: Talk, turn: int) -> None:
        await talk.append(user_text=f"question {turn}")
        await talk.generate(temperature=1.0, seed=turn, max_new_tokens=150)

    async def conversation() -> Talk:
        talk = await Talk(cramped).open()
        await talk.append(system="be kind " * 12)
        return talk

    alone = await conversation()
    for turn in range(3):
        await converse(alone, turn)
    await alone.send(close=lm_pb2.CloseSession())
    assert (await alone.status())[0] is grpc.StatusCode.OK
    talks = [await conversation() for _ in range(CAPACITY)]
    for turn in range(3):
        for talk in talks:
            await converse(talk, turn)
    assert sum(len(talk.tokens) for talk in talks) > cramped.pool.tokens
    assert all(talk.tokens == alone.tokens for talk in talks)


async def test_answers_that_outgrow_the_memory_end_with_its_size(cramped: Service) -> None:
    first, second = [await Talk(cramped).open([65] * 480) for _ in range(2)]
    for talk in (first, second):
        await talk.send(generate=lm_pb2.Generate(say=LONG))
        await talk.receive()
    code, details = await second.status()
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "the memory for keys and values, 1024 tokens, is used up by 2 answers" in details
    _, finished = await first.rest()
    assert finished.length > 512
    await first.send(close=lm_pb2.CloseSession())
    assert (await first.status())[0] is grpc.StatusCode.OK
    await until(lambda: idle(cramped))


async def test_a_message_that_is_too_long(service: Service) -> None:
    talk = await Talk(service).open()
    await talk.send(append=lm_pb2.Append(user_text="x" * 10_000_000))
    code, details = await talk.status()
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "is too long; at most 8388608 are allowed" in details
    await until(lambda: idle(service))


@pytest.mark.parametrize("command", ["open", "append"])
async def test_text_where_ids_belong(service: Service, checkpoint_dir: Path, command: str) -> None:
    """A client with its own idea of the contract: a string in the field that holds packed ids."""
    text = "café".encode()
    ids = {"open": b"\x12" + bytes([len(text)]) + text, "append": b"\x0a" + bytes([len(text)]) + text}[command]
    body = ids if command == "open" else b"\x1a" + bytes([len(ids)]) + ids
    message = {"open": b"\x0a", "append": b"\x12"}[command] + bytes([len(body)]) + body
    call = service.raw()
    if command == "append":
        await call.write(lm_pb2.ConverseRequest(open=lm_pb2.OpenSession()).SerializeToString())
    await call.write(message)
    code, details = await status_of(call)
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "cannot be read as this method's request" in details
    await until(lambda: idle(service))


async def idle(service: Service) -> bool:
    """Whether no stream, session or block of memory is held."""
    return (
        await active(service, 0)
        and not service.scheduler.has_work
        and service.scheduler.sessions == 0
        and service.pool.free == service.pool.blocks
    )


async def active(service: Service, count: int) -> bool:
    return (await service.stub.Info(lm_pb2.VoiceLMInfoRequest())).active == count


def start(*arguments: str, **environment: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "services.lm", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, **environment},
    )


def refusal(*arguments: str) -> str:
    """The one line that the service ends with, at exit status 2."""
    process = start(*arguments)
    try:
        out, err = process.communicate(timeout=280)
    finally:
        process.kill()
    assert process.returncode == 2, err
    assert out == ""
    assert err.startswith("services.lm: error: ")
    assert len(err.splitlines()) == 1
    return err


async def test_process_serves_and_stops_on_a_signal(checkpoint_dir: Path) -> None:
    process = start("--weights", str(checkpoint_dir), "--listen", "127.0.0.1:0", TRUNKLINE_LM_CAPACITY="3")
    try:
        assert process.stdout is not None
        line = await asyncio.to_thread(process.stdout.readline)
        assert line.startswith("services.lm: serving on port ")
        async with grpc.aio.insecure_channel(f"127.0.0.1:{line.split()[-1]}") as channel:
            health = health_pb2_grpc.HealthStub(channel)
            reply = await health.Check(health_pb2.HealthCheckRequest(service=SERVICE))
            assert reply.status == health_pb2.HealthCheckResponse.SERVING
            stub: lm_pb2_grpc.VoiceLMAsyncStub = lm_pb2_grpc.VoiceLMStub(channel)
            info = await stub.Info(lm_pb2.VoiceLMInfoRequest())
            assert info.capacity == 3
        process.send_signal(signal.SIGTERM)
        _, err = await asyncio.to_thread(process.communicate, timeout=60)
        assert process.returncode == 0, err
        assert "Traceback" not in err
    finally:
        process.kill()
        process.wait()


def test_process_without_weights(tmp_path: Path) -> None:
    assert "is not a directory" in refusal("--weights", str(tmp_path / "none"), "--listen", "127.0.0.1:0")
    assert "tokenizer.model" in refusal("--weights", str(tmp_path), "--listen", "127.0.0.1:0")


def test_process_with_wrong_weights(tmp_path: Path, golden_dir: Path) -> None:
    directory = write_checkpoint(tmp_path, golden_dir)
    (directory / "model.safetensors").write_bytes((golden_dir / "tokenizer" / "model.safetensors").read_bytes())
    assert "not this ChatGLM language model" in refusal("--weights", str(directory), "--listen", "127.0.0.1:0")


def test_process_on_a_taken_port(checkpoint_dir: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"cannot listen on 127.0.0.1:{port}" in refusal(
            "--weights", str(checkpoint_dir), "--listen", f"127.0.0.1:{port}"
        )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--capacity", "0"], "--capacity"),
        (["--dtype", "int8"], "--dtype"),
        (["--quantization", "int2"], "--quantization"),
        (["--kv-mib", "1"], "--kv-mib: 0 MiB are too few"),
        (["--device", "warp"], "--device: warp cannot be used"),
    ],
)
def test_process_with_bad_settings(checkpoint_dir: Path, arguments: list[str], message: str) -> None:
    assert message in refusal("--weights", str(checkpoint_dir), "--listen", "127.0.0.1:0", *arguments)
