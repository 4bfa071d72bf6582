"""The tokenizer service over real gRPC, with the tiny released checkpoint."""

import asyncio
import os
import shutil
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import numpy.typing as npt
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from services.tokenizer.engine import TokenizerEngine, samples_of
from services.tokenizer.servicer import SERVICE, make_server
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

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.engine = TokenizerEngine(checkpoint, MAX_SECONDS, interim_tokens=4)
        self.server = make_server(self.engine, "127.0.0.1:0", CAPACITY)

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


def config(interim_results: bool = False) -> pb.TokenizeRequest:
    return pb.TokenizeRequest(config=pb.TokenizeConfig(interim_results=interim_results, call_id="call-1"))


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
        ([audio(bytes(2 * 16000 * MAX_SECONDS)), audio(b"\0\0")], "longer than 640000 samples"),
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
