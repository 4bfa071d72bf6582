"""The decoder service over real gRPC, with the tiny released checkpoint."""

import asyncio
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.decoder.config import InferenceConfig
from services.decoder.engine import DecoderEngine
from services.decoder.servicer import SERVICE, make_server
from services.decoder.weights import Checkpoint, load
from trunkline.v1 import decoder_pb2 as pb
from trunkline.v1 import decoder_pb2_grpc as rpc

CAPACITY = 2
MAX_VOICES = 2
BATCHED_TOLERANCE = 4  # of 32768: float32 rounds differently in a batch


@pytest.fixture(scope="module")
def checkpoint(golden_dir: Path) -> Checkpoint:
    loaded = load(golden_dir / "decoder")
    quick = loaded.config.model_copy(update={"inference": InferenceConfig(n_timesteps=2)})
    return replace(loaded, config=quick)


def some_codes(count: int, seed: int = 0) -> list[int]:
    rng = random.Random(seed)
    return [rng.randrange(512) for _ in range(count)]


def codes(values: list[int]) -> pb.SynthesizeRequest:
    return pb.SynthesizeRequest(codes=pb.SpeechCodes(codes=values))


def config(**values: Any) -> pb.SynthesizeRequest:
    return pb.SynthesizeRequest(config=pb.SynthesizeConfig(**values))


async def remaining(call: Any) -> list[pb.SynthesizeResponse]:
    found = []
    while (response := await call.read()) is not grpc.aio.EOF:
        found.append(response)
    return found


def loudest_difference(one: bytes, other: bytes) -> int:
    assert len(one) == len(other)
    first, second = (np.frombuffer(pcm, "<i2").astype(np.int32) for pcm in (one, other))
    return int(np.abs(first - second).max())


def samples(count: int) -> int:
    return int(count * 441 / 64) * 256


class Service:
    """A server on a free port and a client of it."""

    def __init__(self, checkpoint: Checkpoint, capacity: int = CAPACITY) -> None:
        self.engine = DecoderEngine(checkpoint, MAX_VOICES)
        self.server = make_server(self.engine, "127.0.0.1:0", capacity)

    async def __aenter__(self) -> "Service":
        port = await self.server.start()
        self.channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
        self.stub: Any = rpc.SpeechDecoderStub(self.channel)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.channel.close()
        await self.server.drain(0)
        self.engine.close()

    async def info(self) -> pb.SpeechDecoderInfoResponse:
        answer: pb.SpeechDecoderInfoResponse = await self.stub.Info(pb.SpeechDecoderInfoRequest())
        return answer

    async def until_active(self, count: int) -> None:
        while (await self.info()).active != count:
            await asyncio.sleep(0.01)

    async def blocks(self, *requests: pb.SynthesizeRequest) -> list[pb.SynthesizeResponse]:
        async def send() -> AsyncIterator[pb.SynthesizeRequest]:
            for request in requests:
                yield request

        return [response async for response in self.stub.Synthesize(send())]

    async def speak(self, *requests: pb.SynthesizeRequest) -> bytes:
        return b"".join(block.pcm for block in await self.blocks(*requests))

    async def refusal(self, *requests: pb.SynthesizeRequest) -> tuple[grpc.StatusCode, str]:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await self.blocks(*requests)
        return refused.value.code(), refused.value.details() or ""

    async def register(self, seconds: float, count: int, fill: int = 0) -> str:
        pcm = random.Random(fill).randbytes(int(seconds * 22_050) * 2)
        request = pb.RegisterVoiceRequest(pcm=pcm, codes=some_codes(count, fill))
        answer: pb.RegisterVoiceResponse = await self.stub.RegisterVoice(request)
        return answer.voice_id


async def test_info(checkpoint: Checkpoint) -> None:
    async with Service(checkpoint) as service:
        info = await service.info()
    assert (info.sample_rate, info.codebook_size, info.token_rate) == (22_050, 512, 12.5)
    assert info.first_block_tokens == 10
    assert list(info.block_tokens) == [20, 30, 50]
    assert (info.capacity, info.active, list(info.voices)) == (CAPACITY, 0, [])
    assert info.model_revision == checkpoint.revision


async def test_an_utterance(checkpoint: Checkpoint) -> None:
    async with Service(checkpoint) as service:
        blocks = await service.blocks(config(seed=3, call_id="a call"), codes(some_codes(64)))
    assert sum(len(block.pcm) for block in blocks) == 2 * samples(64)
    done = [block.tokens_done for block in blocks]
    assert done == sorted(done)
    assert done[-1] == 64


async def test_audio_comes_before_the_utterance_ends(checkpoint: Checkpoint) -> None:
    async with Service(checkpoint) as service:
        call = service.stub.Synthesize()
        await call.write(codes(some_codes(10)))
        first = await call.read()
        assert len(first.pcm) > 0
        assert 0 < first.tokens_done < 10
        await call.done_writing()
        rest = await remaining(call)
        assert len(first.pcm) + sum(len(block.pcm) for block in rest) == 2 * samples(10)


async def test_same_waveform_however_split_and_on_any_replica(checkpoint: Checkpoint) -> None:
    values = some_codes(45)
    async with Service(checkpoint) as service, Service(checkpoint) as other:
        whole = await service.speak(config(seed=7), codes(values))
        assert whole == await service.speak(config(seed=7), *[codes([value]) for value in values])
        assert whole == await other.speak(config(seed=7), codes(values[:26]), codes(values[26:]))
        assert whole != await service.speak(config(seed=8), codes(values))


async def test_streams_at_once_do_not_mix(checkpoint: Checkpoint) -> None:
    one, two = some_codes(40, 1), some_codes(70, 2)
    async with Service(checkpoint) as service:
        alone = [await service.speak(codes(one)), await service.speak(codes(two))]
        together = await asyncio.gather(service.speak(codes(one)), service.speak(codes(two)))
    for wanted, got in zip(alone, together, strict=True):
        assert loudest_difference(wanted, got) <= BATCHED_TOLERANCE


async def test_no_tokens_no_audio(checkpoint: Checkpoint) -> None:
    async with Service(checkpoint) as service:
        assert await service.blocks() == []
        assert await service.blocks(config(seed=1)) == []


async def test_bad_messages_are_refused(checkpoint: Checkpoint) -> None:
    invalid = grpc.StatusCode.INVALID_ARGUMENT
    async with Service(checkpoint) as service:
        code, details = await service.refusal(codes([1, 512]))
        assert (code, "512" in details, "0 to 511" in details) == (invalid, True, True)
        code, details = await service.refusal(codes([1]), config(seed=1))
        assert (code, "first message" in details) == (invalid, True)
        code, details = await service.refusal(codes([1]), codes([]))
        assert (code, "at least one" in details, "0 to 511" in details) == (invalid, True, True)
        code, details = await service.refusal(pb.SynthesizeRequest())
        assert (code, "payload" in details) == (invalid, True)
        code, details = await service.refusal(config(voice_id="voice-nobody"))
        assert (code, "voice-nobody" in details) == (grpc.StatusCode.NOT_FOUND, True)
        assert (await service.info()).active == 0


async def test_one_stream_too_many(checkpoint: Checkpoint) -> None:
    async with Service(checkpoint) as service:
        calls = [service.stub.Synthesize() for _ in range(CAPACITY)]
        for call in calls:
            await call.write(codes([1]))
        await service.until_active(CAPACITY)
        code, details = await service.refusal(codes([1]))
        assert (code, f"all {CAPACITY} decoder streams" in details) == (grpc.StatusCode.RESOURCE_EXHAUSTED, True)
        calls[0].cancel()
        await service.until_active(CAPACITY - 1)
        assert len(await service.speak(codes([1]))) == 2 * samples(1)
        calls[1].cancel()
        await service.until_active(0)


async def test_cancelling_stops_the_work(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = 0
    estimator = checkpoint.flow.decoder.estimator
    original = estimator.forward

    def count(*args: Any) -> Any:
        nonlocal steps
        steps += 1
        return original(*args)

    monkeypatch.setattr(estimator, "forward", count)
    values = some_codes(4000)
    blocks_in_all = 4000 // 50
    async with Service(checkpoint) as service:
        call = service.stub.Synthesize()
        await call.write(codes(values))
        await call.read()
        call.cancel()
        await service.until_active(0)
        # the worker is free again: a later stream is served, and little of the cancelled one was computed
        assert len(await service.speak(codes(some_codes(10)))) == 2 * samples(10)
    assert steps < blocks_in_all


async def test_voices(checkpoint: Checkpoint) -> None:
    values = some_codes(20)
    async with Service(checkpoint) as service, Service(checkpoint) as other:
        voice = await service.register(3.0, 37)
        assert voice == await other.register(3.0, 37)
        assert list((await service.info()).voices) == [voice]
        spoken = await service.speak(config(voice_id=voice), codes(values))
        assert len(spoken) == 2 * samples(20)
        assert spoken == await other.speak(config(voice_id=voice), codes(values))
        assert spoken != await service.speak(codes(values))


async def test_a_voice_is_forgotten(checkpoint: Checkpoint) -> None:
    async with Service(checkpoint) as service:
        assert not (await service.info()).speaker_model
        voice, other = await service.register(3.0, 37), await service.register(3.0, 37, fill=1)
        for _ in range(2):  # what is not there is forgotten already
            await service.stub.ForgetVoice(pb.ForgetVoiceRequest(voice_id=voice))
        assert list((await service.info()).voices) == [other]
        assert (await service.refusal(config(voice_id=voice)))[0] == grpc.StatusCode.NOT_FOUND


async def test_voices_are_bounded(checkpoint: Checkpoint) -> None:
    async with Service(checkpoint) as service:
        voices = [await service.register(3.0, 38, fill) for fill in range(MAX_VOICES + 1)]
        assert list((await service.info()).voices) == voices[1:]
        assert (await service.refusal(config(voice_id=voices[0])))[0] == grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize(
    ("pcm", "values", "said"),
    [
        (b"", [], "empty"),
        (b"", [0] * 38, "empty"),
        (bytes(22_050 * 5), [0] * 31, "3 to 30 s at 22050 Hz, got 2.50 s"),
        (bytes(22_050 * 62), [0] * 387, "3 to 30 s at 22050 Hz, got 31.00 s"),
        (bytes(22_050 * 6 + 1), [0] * 38, "16-bit"),
        (bytes(22_050 * 6), [0] * 30, "about 38 codes"),
        (bytes(22_050 * 6), [512] * 38, "0 to 511"),
    ],
)
async def test_bad_references_are_refused(checkpoint: Checkpoint, pcm: bytes, values: list[int], said: str) -> None:
    async with Service(checkpoint) as service:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await service.stub.RegisterVoice(pb.RegisterVoiceRequest(pcm=pcm, codes=values))
        assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert said in (refused.value.details() or "")


async def test_a_reference_at_another_rate_is_refused(checkpoint: Checkpoint) -> None:
    def reference(sample_rate: int) -> pb.RegisterVoiceRequest:
        return pb.RegisterVoiceRequest(pcm=bytes(22_050 * 6), codes=[0] * 38, sample_rate=sample_rate)

    async with Service(checkpoint) as service:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await service.stub.RegisterVoice(reference(16_000))
        assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert "16000" in (refused.value.details() or "")
        assert "22050 Hz" in (refused.value.details() or "")
        said = await service.stub.RegisterVoice(reference(22_050))
        assert said == await service.stub.RegisterVoice(reference(0))


async def test_two_hundred_streams_given_up_leave_nothing(checkpoint: Checkpoint) -> None:
    """Before the first message, between messages, while blocks are computed, after the half-close."""
    streams, at_once = 200, 25
    rng = random.Random(5)

    async def give_up(service: Service) -> None:
        call = service.stub.Synthesize()
        for step in range(rng.randrange(6)):
            if step:
                await call.write(codes(some_codes(rng.choice([1, 9, 10, 26, 160]), step)))
            else:
                await call.write(config(seed=rng.getrandbits(64)))
            await asyncio.sleep(rng.choice([0.0, 0.0, 0.01]))
        if rng.random() < 0.3:
            await call.done_writing()
        if rng.random() < 0.3:
            await asyncio.wait([asyncio.create_task(call.read())], timeout=rng.random() * 0.2)
        call.cancel()

    async with Service(checkpoint, capacity=at_once) as service:
        before = len(asyncio.all_tasks())
        for _ in range(streams // at_once):
            await asyncio.gather(*(give_up(service) for _ in range(at_once)))
            await service.until_active(0)
        assert (service.engine.open_streams, service.server.slots.active) == (0, 0)
        while service.engine.pending_blocks or len(asyncio.all_tasks()) > before:
            await asyncio.sleep(0.01)
        assert len(await service.speak(codes(some_codes(12)))) == 2 * samples(12)


async def test_draining(checkpoint: Checkpoint) -> None:
    async with Service(checkpoint) as service:
        call = service.stub.Synthesize()
        await call.write(codes(some_codes(10)))
        await call.read()
        drained = asyncio.create_task(service.server.drain(60))
        while not service.server.slots.draining:
            await asyncio.sleep(0.01)
        await call.done_writing()
        rest = await remaining(call)
        assert rest[-1].tokens_done == 10
        await drained


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "services.decoder", *arguments]


def failure(*arguments: str) -> str:
    done = subprocess.run(command(*arguments), capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.strip().splitlines()) == 1
    return done.stderr


async def test_the_process_serves_and_ends_on_sigterm(golden_dir: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *command("--weights", str(golden_dir / "decoder"), "--listen", "127.0.0.1:0", "--threads", "1"),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "TRUNKLINE_DECODER_CAPACITY": "3"},
    )
    assert process.stdout is not None
    try:
        port = int((await process.stdout.readline()).split()[-1])
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            health: Any = health_pb2_grpc.HealthStub(channel)
            status = await health.Check(health_pb2.HealthCheckRequest(service=SERVICE))
            assert status.status == health_pb2.HealthCheckResponse.SERVING
            stub: Any = rpc.SpeechDecoderStub(channel)
            assert (await stub.Info(pb.SpeechDecoderInfoRequest())).capacity == 3
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def test_bad_starts(golden_dir: Path, tmp_path: Path) -> None:
    good = str(golden_dir / "decoder")
    assert "no such directory" in failure("--weights", str(tmp_path / "none"), "--listen", "127.0.0.1:0")
    assert "config.yaml is missing" in failure("--weights", str(tmp_path), "--listen", "127.0.0.1:0")
    shutil.copy(golden_dir / "decoder" / "config.yaml", tmp_path)
    shutil.copy(golden_dir / "decoder" / "flow.pt", tmp_path)
    assert "hift.pt" in failure("--weights", str(tmp_path), "--listen", "127.0.0.1:0")
    assert "--listen" in failure("--weights", good)
    steps = failure("--weights", good, "--listen", "127.0.0.1:0", "--flow-steps", "0")
    assert "--flow-steps" in steps
    assert "greater than or equal to 1" in steps
    speaker = str(tmp_path / "config.yaml")
    assert "config.yaml: not a model" in failure(
        "--weights", good, "--listen", "127.0.0.1:0", "--speaker-model", speaker
    )
    assert "--device" in failure("--weights", good, "--listen", "127.0.0.1:0", "--device", "abacus")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        assert "cannot listen" in failure("--weights", good, "--listen", address)
