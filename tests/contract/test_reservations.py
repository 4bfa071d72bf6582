"""Reserve, which is the same on all three services, over real gRPC; the comments in the protos are what is tested."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
import torch
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.common.grpc_server import Server, Slots
from services.common.reservations import METADATA_KEY
from services.decoder import servicer as decoder
from services.decoder import weights as decoder_weights
from services.decoder.engine import DecoderEngine
from services.lm import weights as lm_weights
from services.lm.prompt import ChatTemplate
from services.lm.servicer import SERVICE, VoiceLMServicer
from services.lm.torch_engine import parameters
from services.lm.torch_engine.engine import TorchEngine
from services.lm.torch_engine.planning import Chunks
from services.lm.torch_engine.runner import Runner
from services.lm.torch_engine.scheduler import Scheduler
from services.tokenizer import servicer as tokenizer
from services.tokenizer import weights as tokenizer_weights
from services.tokenizer.engine import TokenizerEngine
from tests.unit.lm.checkpoint import write_checkpoint
from trunkline.v1 import decoder_pb2, decoder_pb2_grpc, lm_pb2, lm_pb2_grpc, tokenizer_pb2, tokenizer_pb2_grpc

CAPACITY = 2
CONTEXT = 256


@dataclass
class Service:
    """A running service, of which streams are held and never given any work."""

    name: str
    server: Server
    stub: Any
    channel: grpc.aio.Channel

    def reserve(self) -> Any:
        made = {
            "tokenizer": tokenizer_pb2.SpeechTokenizerReserveRequest,
            "lm": lm_pb2.VoiceLMReserveRequest,
            "decoder": decoder_pb2.SpeechDecoderReserveRequest,
        }
        return self.stub.Reserve(made[self.name](call_id="a-call"))

    async def reserved(self) -> tuple[Any, str]:
        call = self.reserve()
        return call, (await call.read()).reservation_id

    def stream(self, reservation: str = "") -> Any:
        opened = {"tokenizer": "Tokenize", "lm": "Converse", "decoder": "Synthesize"}
        metadata = [(METADATA_KEY, reservation)] if reservation else None
        return getattr(self.stub, opened[self.name])(metadata=metadata)

    async def refused(self, call: Any) -> grpc.StatusCode:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await call.read()
        return error.value.code()

    async def info(self) -> Any:
        made = {
            "tokenizer": tokenizer_pb2.SpeechTokenizerInfoRequest,
            "lm": lm_pb2.VoiceLMInfoRequest,
            "decoder": decoder_pb2.SpeechDecoderInfoRequest,
        }
        return await self.stub.Info(made[self.name]())

    async def until(self, active: int, unused: int) -> None:
        async with asyncio.timeout(60):
            while True:
                info = await self.info()
                if (info.active, info.reserved) == (active, unused):
                    return
                await asyncio.sleep(0.01)


def speech_tokenizer(golden: Path, directory: Path) -> tuple[Server, Any]:
    engine = TokenizerEngine(tokenizer_weights.load(golden / "tokenizer"), 30, interim_tokens=4)
    return tokenizer.make_server(engine, "127.0.0.1:0", CAPACITY), engine.close


def voice_lm(golden: Path, directory: Path) -> tuple[Server, Any]:
    path = write_checkpoint(directory / "weights", golden, CONTEXT)
    template, checkpoint = ChatTemplate.load(path), lm_weights.inspect(path)
    runner = Runner(parameters.load(checkpoint, torch.float32), CAPACITY * CONTEXT)
    chunks = Chunks(answering=24, silent=256)
    engine = TorchEngine(Scheduler(runner, template, CONTEXT, checkpoint.architecture.end_tokens, chunks))
    slots = Slots(CAPACITY, "sessions")
    servicer = VoiceLMServicer(engine, template, slots, checkpoint.revision)
    register = lambda server: lm_pb2_grpc.add_VoiceLMServicer_to_server(servicer, server)  # noqa: E731
    return Server(SERVICE, register, "127.0.0.1:0", slots), engine.stop


def speech_decoder(golden: Path, directory: Path) -> tuple[Server, Any]:
    engine = DecoderEngine(decoder_weights.load(golden / "decoder"), max_voices=1)
    return decoder.make_server(engine, "127.0.0.1:0", CAPACITY), engine.close


@pytest.fixture(params=["tokenizer", "lm", "decoder"])
async def service(request: pytest.FixtureRequest, golden_dir: Path, tmp_path: Path) -> AsyncIterator[Service]:
    make = {"tokenizer": speech_tokenizer, "lm": voice_lm, "decoder": speech_decoder}[request.param]
    stubs = {
        "tokenizer": tokenizer_pb2_grpc.SpeechTokenizerStub,
        "lm": lm_pb2_grpc.VoiceLMStub,
        "decoder": decoder_pb2_grpc.SpeechDecoderStub,
    }
    server, stop = make(golden_dir, tmp_path)
    port = await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield Service(request.param, server, stubs[request.param](channel), channel)
    await server.drain(0)
    stop()


async def test_a_reservation_holds_a_slot_until_its_stream_ends(service: Service) -> None:
    first, first_id = await service.reserved()
    second, second_id = await service.reserved()
    assert first_id != second_id
    await service.until(active=2, unused=2)
    assert await service.refused(service.reserve()) is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert await service.refused(service.stream()) is grpc.StatusCode.RESOURCE_EXHAUSTED
    first.cancel()
    await service.until(active=1, unused=1)
    third, _ = await service.reserved()
    second.cancel()
    third.cancel()
    await service.until(active=0, unused=0)


async def test_streams_that_name_it_use_its_slot_one_after_another(service: Service) -> None:
    held, reservation = await service.reserved()
    other, _ = await service.reserved()
    for _ in range(5):
        stream = service.stream(reservation)
        await service.until(active=2, unused=1)
        stream.cancel()
    last = service.stream(reservation)
    await service.until(active=2, unused=1)
    for call in (last, other, held):
        call.cancel()
    await service.until(active=0, unused=0)


async def test_a_stream_keeps_the_slot_of_a_reservation_that_ends(service: Service) -> None:
    held, reservation = await service.reserved()
    stream = service.stream(reservation)
    await service.until(active=1, unused=0)
    held.cancel()
    other, _ = await service.reserved()
    await service.until(active=2, unused=1)
    assert await service.refused(service.reserve()) is grpc.StatusCode.RESOURCE_EXHAUSTED
    stream.cancel()
    await service.until(active=1, unused=1)
    other.cancel()


async def test_an_unknown_reservation_is_read_as_none(service: Service) -> None:
    stream = service.stream("what was held once")
    await service.until(active=1, unused=0)
    stream.cancel()
    await service.until(active=0, unused=0)


async def test_who_drains_reserves_nothing_and_lets_in_what_was_promised(service: Service) -> None:
    health: Any = health_pb2_grpc.HealthStub(service.channel)
    watches = [health.Watch(health_pb2.HealthCheckRequest(service="")) for _ in range(3)]
    for watch in watches:
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
    watches.pop().cancel()
    held, reservation = await service.reserved()
    draining = asyncio.create_task(service.server.drain(60))
    for watch in watches:
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
    assert await service.refused(service.reserve()) is grpc.StatusCode.UNAVAILABLE
    assert await service.refused(service.stream()) is grpc.StatusCode.UNAVAILABLE
    stream = service.stream(reservation)
    await service.until(active=1, unused=0)
    assert not draining.done()
    stream.cancel()
    held.cancel()
    await draining
