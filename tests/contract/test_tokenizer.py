"""The tokenizer service over real gRPC, with the tiny released checkpoint."""

import asyncio
import gc
import os
import random
import shutil
import signal
import socket
import sys
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import numpy.typing as npt
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from services.tokenizer import engine as engine_module
from services.tokenizer.engine import TokenizerEngine, samples_of
from services.tokenizer.servicer import SERVICE, make_server
from services.tokenizer.streaming import Tokens, Utterance, encode
from services.tokenizer.weights import Checkpoint, load
from services.tokenizer.whole import tokenise
from trunkline.v1 import tokenizer_pb2 as pb
from trunkline.v1 import tokenizer_pb2_grpc as rpc

CAPACITY = 2
MAX_SECONDS = 40
BLOCK_BYTES = 200 * 320 * 2  # 4 s


@pytest.fixture(scope="module")
def checkpoint(golden_dir: Path) -> Checkpoint:
    return load(golden_dir / "tokenizer")


@pytest.fixture(scope="module")
def golden(golden_dir: Path) -> dict[str, npt.NDArray[Any]]:
    with np.load(golden_dir / "tokenizer" / "golden.npz") as file:
        return dict(file)


class Service:
    """A server on a free port and a client of it."""

    def __init__(self, checkpoint: Checkpoint, capacity: int = CAPACITY) -> None:
        self.engine = TokenizerEngine(checkpoint, MAX_SECONDS, interim_tokens=4)
        self.server = make_server(self.engine, "127.0.0.1:0", capacity)

    async def __aenter__(self) -> "Service":
        port = await self.server.start()
        self.channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
        self.stub: Any = rpc.SpeechTokenizerStub(self.channel)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.channel.close()
        await self.server.drain(0)
        self.engine.close()

    async def info(self) -> pb.SpeechTokenizerInfoResponse:
        answer: pb.SpeechTokenizerInfoResponse = await self.stub.Info(pb.SpeechTokenizerInfoRequest())
        return answer

    async def until_active(self, count: int) -> None:
        while (await self.info()).active != count:
            await asyncio.sleep(0.01)

    async def tokenize(self, *requests: pb.TokenizeRequest) -> list[pb.TokenizeResponse]:
        async def send() -> AsyncIterator[pb.TokenizeRequest]:
            for request in requests:
                yield request

        return [response async for response in self.stub.Tokenize(send())]

    async def refusal(self, *requests: pb.TokenizeRequest) -> tuple[grpc.StatusCode, str]:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await self.tokenize(*requests)
        return refused.value.code(), refused.value.details() or ""


@pytest.fixture
async def service(checkpoint: Checkpoint) -> AsyncIterator[Service]:
    async with Service(checkpoint) as running:
        yield running


def config(interim_results: bool = False, sample_rate: int = 0) -> pb.TokenizeRequest:
    return pb.TokenizeRequest(
        config=pb.TokenizeConfig(interim_results=interim_results, call_id="call-1", sample_rate=sample_rate)
    )


def audio(pcm: bytes) -> pb.TokenizeRequest:
    return pb.TokenizeRequest(pcm=pcm)


def chunks(pcm: bytes, size: int) -> list[pb.TokenizeRequest]:
    return [audio(pcm[at : at + size]) for at in range(0, len(pcm), size)]


def pcm_of(samples: npt.NDArray[Any]) -> bytes:
    return (samples * 32767).round().astype("<i2").tobytes()


def final_ids(responses: list[pb.TokenizeResponse]) -> list[int]:
    """The utterance's tokens, with a check of their positions and times."""
    ids: list[int] = []
    for response in responses:
        assert response.start_index == len(ids)
        assert response.start_ms == 80 * len(ids)
        assert response.tokens
        if response.is_final:
            ids += response.tokens
    return ids


async def test_info_publishes_the_limits(service: Service, checkpoint: Checkpoint) -> None:
    assert await service.info() == pb.SpeechTokenizerInfoResponse(
        sample_rate=16000,
        codebook_size=512,
        token_rate=12.5,
        block_tokens=50,
        capacity=CAPACITY,
        active=0,
        model_revision=checkpoint.revision,
        max_seconds=MAX_SECONDS,
    )


async def test_an_utterance_within_a_block_is_tokenised_as_a_whole(
    service: Service, checkpoint: Checkpoint, golden: dict[str, npt.NDArray[Any]]
) -> None:
    pcm = pcm_of(golden["audio1"])
    (response,) = await service.tokenize(*chunks(pcm, 642))
    assert response.is_final
    assert final_ids([response]) == tokenise(checkpoint, [samples_of(pcm)])[0]
    assert len(response.tokens) == len(golden["ids1"])


async def test_two_streams_at_once_each_give_what_they_give_alone(
    service: Service, golden: dict[str, npt.NDArray[Any]]
) -> None:
    first, second = pcm_of(golden["audio0"]), pcm_of(golden["audio0"][::-1])
    alone = [final_ids(await service.tokenize(config(), *chunks(pcm, 6400))) for pcm in (first, second)]
    together = await asyncio.gather(
        service.tokenize(config(), *chunks(first, 640)), service.tokenize(*chunks(second, 998))
    )
    assert [final_ids(responses) for responses in together] == alone
    assert alone[0] != alone[1]
    assert len(alone[0]) == len(golden["ids0"])


async def test_eight_streams_at_once_each_give_what_they_give_alone(
    checkpoint: Checkpoint, golden: dict[str, npt.NDArray[Any]]
) -> None:
    pcm = pcm_of(golden["audio0"])
    sounds = [
        pcm[2 * 777 * start : 2 * (777 * start + length)] for start, length in enumerate(range(1, 144_000, 18_000))
    ]
    async with Service(checkpoint, capacity=8) as service:
        alone = [final_ids(await service.tokenize(*chunks(sound, 640))) for sound in sounds]
        together = await asyncio.gather(*(service.tokenize(*chunks(sound, 640)) for sound in sounds))
    assert [final_ids(responses) for responses in together] == alone
    assert len({len(ids) for ids in alone}) == 8


async def test_the_sample_rate_may_be_named(service: Service) -> None:
    assert len(final_ids(await service.tokenize(config(sample_rate=16000), audio(b"\0\0")))) == 1


async def test_a_finished_block_arrives_while_the_utterance_goes_on(
    service: Service, golden: dict[str, npt.NDArray[Any]]
) -> None:
    pcm = pcm_of(golden["audio0"])
    call = service.stub.Tokenize()
    await call.write(audio(pcm[: BLOCK_BYTES + 80]))  # the last window reaches 40 samples further
    response = await call.read()
    assert (response.start_index, len(response.tokens), response.is_final) == (0, 50, True)
    assert (await service.info()).active == 1
    await call.done_writing()
    response = await call.read()
    assert (response.start_index, response.start_ms, len(response.tokens)) == (50, 4000, 1)
    assert await call.read() is grpc.aio.EOF
    assert await call.code() is grpc.StatusCode.OK
    await service.until_active(0)


async def test_interim_results_come_only_when_asked_for(service: Service, golden: dict[str, npt.NDArray[Any]]) -> None:
    pcm = pcm_of(golden["audio1"])
    responses = await service.tokenize(config(interim_results=True), *chunks(pcm, 2560))
    shapes = [(response.start_index, len(response.tokens), response.is_final) for response in responses]
    assert shapes == [(0, count, False) for count in range(4, 33, 4)] + [(0, 34, True)]
    assert all(response.is_final for response in await service.tokenize(config(), *chunks(pcm, 2560)))


@pytest.mark.parametrize("requests", [[], [config()], [audio(b"")]])
async def test_an_utterance_without_sound_has_no_tokens(service: Service, requests: list[pb.TokenizeRequest]) -> None:
    assert await service.tokenize(*requests) == []


@pytest.mark.parametrize(
    ("requests", "message"),
    [
        ([audio(b"\0\0"), config()], "config is allowed only as the first message"),
        ([config(), config()], "config is allowed only as the first message"),
        ([pb.TokenizeRequest()], "config or pcm"),
        ([audio(b"\0\0\0")], "pcm has 3 bytes; 16-bit samples need an even number"),
        ([audio(bytes(2 * 16000 * MAX_SECONDS)), audio(b"\0\0")], "at most 40 s are allowed, which are 640000 samples"),
        ([config(sample_rate=8000)], "sample_rate 8000 is not supported; this tokenizer takes 16000 Hz"),
    ],
)
async def test_bad_input_is_refused_and_frees_the_slot(
    service: Service, requests: list[pb.TokenizeRequest], message: str
) -> None:
    code, details = await service.refusal(*requests)
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert message in details
    await service.until_active(0)


async def test_the_longest_utterance_is_cut_after_30_seconds(service: Service, checkpoint: Checkpoint) -> None:
    sound = np.random.default_rng(1).normal(size=16000 * MAX_SECONDS).clip(-3, 3) / 4
    sound[:10] = 1.0
    pcm = pcm_of(sound)
    ids = final_ids(await service.tokenize(*chunks(pcm, 64000)))
    assert len(ids) == MAX_SECONDS * 12.5
    # A stream restarts at the cut: what follows is what it would be alone.
    assert ids[375:] == final_ids(await service.tokenize(audio(pcm[2 * 480_000 :])))


async def test_one_stream_too_many_is_refused_and_a_cancelled_one_makes_room(service: Service) -> None:
    held = [service.stub.Tokenize() for _ in range(CAPACITY)]
    await service.until_active(CAPACITY)
    code, details = await service.refusal(audio(b"\0\0"))
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert details == "all 2 tokenizer streams are taken; try again later"
    held[0].cancel()
    await service.until_active(CAPACITY - 1)
    assert len(final_ids(await service.tokenize(audio(b"\0\0")))) == 1
    held[1].cancel()


async def test_a_client_that_leaves_while_it_is_computed_for_frees_its_slot(service: Service) -> None:
    call = service.stub.Tokenize()
    await call.write(config(interim_results=True))
    for request in chunks(bytes(BLOCK_BYTES * 5), 12800):
        await call.write(request)
    await call.read()
    call.cancel()
    await service.until_active(0)
    assert len(final_ids(await service.tokenize(audio(b"\0\0")))) == 1


class Crowd:
    """The encoder held back until many wait for it, so that callers also leave while they wait."""

    def __init__(self, engine: TokenizerEngine, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self._engine = engine
        self._size = size
        self._there = threading.Event()
        monkeypatch.setattr(engine_module, "encode", self._encode)

    def _encode(self, *batch: Any) -> list[Tokens]:
        assert self._there.wait(60)
        return encode(*batch)

    async def wait(self) -> None:
        while not self._there.is_set():
            if self._engine.pending >= self._size:
                self._there.set()
            await asyncio.sleep(0.001)


async def abort(service: Service, crowd: Crowd, chance: random.Random, pcm: bytes) -> None:
    """A caller who goes away at any moment: before a word, while speaking, while waiting, after a result."""
    call = service.stub.Tokenize()
    at = chance.randrange(len(pcm) // 4) * 2
    sending = chunks(pcm[at:], chance.choice([640, 6400, 64_000]))[: chance.choice([0, 1, 3, 12])]
    try:
        if chance.random() < 0.5:
            await call.write(config(interim_results=chance.random() < 0.7))
        for request in sending:
            await call.write(request)
        if sending and chance.random() < 0.5:
            await call.done_writing()
            await crowd.wait()
        await asyncio.wait_for(call.read(), chance.choice([0.0, 0.001, 0.02, 0.1]))
    except TimeoutError:
        pass  # that cancels the call too
    finally:
        call.cancel()


async def test_two_hundred_streams_aborted_at_random_moments_leave_nothing(
    checkpoint: Checkpoint, golden: dict[str, npt.NDArray[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    pcm = pcm_of(golden["audio0"])
    spoken = chunks(pcm, 6400)
    chance = random.Random(1)
    async with Service(checkpoint, capacity=201) as service:
        before = final_ids(await service.tokenize(*spoken))
        await service.until_active(0)
        tasks = len(asyncio.all_tasks())
        crowd = Crowd(service.engine, 20, monkeypatch)
        survivor = asyncio.create_task(service.tokenize(*spoken))
        await asyncio.gather(*(abort(service, crowd, random.Random(chance.random()), pcm) for _ in range(200)))
        assert final_ids(await survivor) == before
        await service.until_active(0)
        while service.engine.pending or len(asyncio.all_tasks()) > tasks:
            await asyncio.sleep(0.01)
        while any(type(thing) is Utterance for thing in gc.get_objects()):
            gc.collect()
            await asyncio.sleep(0.01)
        assert final_ids(await service.tokenize(*spoken)) == before


async def test_a_draining_service_ends_its_streams_and_takes_no_more(
    service: Service, golden: dict[str, npt.NDArray[Any]]
) -> None:
    pcm = pcm_of(golden["audio1"])
    call = service.stub.Tokenize()
    await call.write(audio(pcm))
    await service.until_active(1)
    draining = asyncio.create_task(service.server.drain(60))
    codes = set()
    while grpc.StatusCode.UNAVAILABLE not in codes:
        try:
            await service.tokenize(audio(b"\0\0"))
        except grpc.aio.AioRpcError as refused:
            codes.add(refused.code())
    assert codes == {grpc.StatusCode.UNAVAILABLE}
    await call.done_writing()
    assert len((await call.read()).tokens) == len(golden["ids1"])
    assert await call.read() is grpc.aio.EOF
    await draining


async def test_health_and_reflection(service: Service) -> None:
    health: Any = health_pb2_grpc.HealthStub(service.channel)
    for name in ("", SERVICE):
        status = await health.Check(health_pb2.HealthCheckRequest(service=name))
        assert status.status == health_pb2.HealthCheckResponse.SERVING
    reflection: Any = reflection_pb2_grpc.ServerReflectionStub(service.channel)
    call = reflection.ServerReflectionInfo()
    await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
    answer = await call.read()
    assert SERVICE in [item.name for item in answer.list_services_response.service]
    await call.done_writing()


async def start(*arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "services.tokenizer",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


async def test_the_process_serves_until_it_is_told_to_stop(
    golden_dir: Path, golden: dict[str, npt.NDArray[Any]], checkpoint: Checkpoint
) -> None:
    weights = str(golden_dir / "tokenizer")
    process = await start("--weights", weights, "--listen", "127.0.0.1:0", "--capacity", "3", "--threads", "1")
    assert process.stdout is not None
    line = (await process.stdout.readline()).decode()
    assert line.startswith("services.tokenizer: serving on port ")
    async with grpc.aio.insecure_channel(f"127.0.0.1:{int(line.split()[-1])}") as channel:
        stub: Any = rpc.SpeechTokenizerStub(channel)
        info = await stub.Info(pb.SpeechTokenizerInfoRequest())
        assert (info.capacity, info.max_seconds, info.model_revision) == (3, 120, checkpoint.revision)
        call = stub.Tokenize(iter(chunks(pcm_of(golden["audio1"]), 640)))
        assert len(final_ids([response async for response in call])) == len(golden["ids1"])
    process.send_signal(signal.SIGTERM)
    out, err = await process.communicate()
    assert (process.returncode, out) == (0, b""), err.decode()


def no_directory(weights: Path) -> str:
    shutil.rmtree(weights)
    return "no config.json in "


def other_size(weights: Path) -> str:
    text = (weights / "config.json").read_text()
    (weights / "config.json").write_text(text.replace('"quantize_vocab_size": 512', '"quantize_vocab_size": 1024'))
    return "model.encoder.codebook.weight has shape (512, 64), config.json asks for (1024, 64)"


@pytest.mark.parametrize("damage", [no_directory, other_size])
async def test_unusable_weights_end_the_process_with_one_line(
    golden_dir: Path, tmp_path: Path, damage: Callable[[Path], str]
) -> None:
    weights = tmp_path / "weights"
    shutil.copytree(golden_dir / "tokenizer", weights)
    message = damage(weights)
    process = await start("--weights", str(weights), "--listen", "127.0.0.1:0")
    out, err = await process.communicate()
    assert (process.returncode, out) == (2, b"")
    assert err.decode().startswith("services.tokenizer: error: ")
    assert message in err.decode()
    assert err.decode().count("\n") == 1


async def test_a_taken_port_ends_the_process_with_one_line(golden_dir: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        process = await start("--weights", str(golden_dir / "tokenizer"), "--listen", address)
        out, err = await process.communicate()
    assert (process.returncode, out) == (2, b"")
    assert err.decode() == f"services.tokenizer: error: cannot listen on {address}: is the port taken?\n"


async def test_an_unknown_device_ends_the_process_with_one_line(golden_dir: Path) -> None:
    process = await start("--weights", str(golden_dir / "tokenizer"), "--listen", "127.0.0.1:0", "--device", "abacus")
    out, err = await process.communicate()
    assert (process.returncode, out) == (2, b"")
    assert err.decode().startswith("services.tokenizer: error: --device: cannot use 'abacus': ")
    assert err.decode().count("\n") == 1


async def test_an_unknown_precision_ends_the_process_with_one_line(golden_dir: Path) -> None:
    process = await start("--weights", str(golden_dir / "tokenizer"), "--listen", "127.0.0.1:0", "--dtype", "int3")
    out, err = await process.communicate()
    assert (process.returncode, out) == (2, b"")
    assert err.decode().startswith("services.tokenizer: error: --dtype: Input should be 'float32', 'float16' or ")
    assert err.decode().count("\n") == 1


async def test_whole_utterance_mode_gives_the_references_tokens(
    golden_dir: Path, golden: dict[str, npt.NDArray[Any]], checkpoint: Checkpoint
) -> None:
    process = await start(
        "--weights", str(golden_dir / "tokenizer"), "--listen", "127.0.0.1:0", "--threads", "1", "--mode", "whole"
    )
    assert process.stdout is not None
    port = int((await process.stdout.readline()).decode().split()[-1])
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub: Any = rpc.SpeechTokenizerStub(channel)
        pcm = pcm_of(golden["audio0"])
        responses = [response async for response in stub.Tokenize(iter(chunks(pcm, 6400)))]
        assert len(responses) == 1
        assert final_ids(responses) == tokenise(checkpoint, [samples_of(pcm)])[0]
    process.send_signal(signal.SIGTERM)
    await process.communicate()
    assert process.returncode == 0
