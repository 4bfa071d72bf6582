"""A service over the engine of this process, and the same over Triton: what one says, the other must say."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import grpc

from services.common.grpc_server import Server, Slots
from services.common.triton import TritonModel, connected
from services.decoder import build as decoder_build
from services.decoder import servicer as decoder_servicer
from services.decoder.triton_backend import MODEL as DECODER
from services.decoder.triton_backend import TritonDecoderBackend
from services.lm import build as lm_build
from services.lm.prompt import ChatTemplate
from services.lm.servicer import SERVICE as LM_SERVICE
from services.lm.servicer import VoiceLMServicer
from services.lm.triton_backend import TritonEngine
from services.lm.triton_codec import MODEL as LM
from services.tokenizer import build as tokenizer_build
from services.tokenizer import servicer as tokenizer_servicer
from services.tokenizer.triton_backend import MODEL as TOKENIZER
from services.tokenizer.triton_backend import TritonTokenizerBackend
from tests.integration.stack import HOST, nano_weights
from trunkline.v1 import decoder_pb2_grpc, lm_pb2_grpc, tokenizer_pb2_grpc

TRITON_SESSIONS = 6  # of each model
SLOTS = 8  # of each service: more than Triton takes
ANY = f"{HOST}:0"


@dataclass
class Running:
    """A service on a port of its own. `model` is there where it runs over Triton."""

    stub: Any
    server: Server
    slots: Slots
    model: TritonModel | None = None

    async def refusal(self, call: Any, requests: Iterable[Any]) -> tuple[grpc.StatusCode, str]:
        """How a stream ends that is sent these."""
        stream = call(_each(requests))
        with contextlib.suppress(grpc.aio.AioRpcError):
            async for _ in stream:
                pass
        return await stream.code(), await stream.details()

    async def until_free(self, left: int = 0) -> None:
        """Until no more streams are left than these, here and in the sessions at Triton."""
        async with asyncio.timeout(30):
            while self.slots.active > left or (self.model is not None and self.model.sessions > left):
                await asyncio.sleep(0.01)


async def _each(requests: Iterable[Any]) -> AsyncIterator[Any]:
    for request in requests:
        yield request


@contextlib.asynccontextmanager
async def _serving(server: Server, slots: Slots, stub: Callable[[grpc.aio.Channel], Any]) -> AsyncIterator[Running]:
    port = await server.start()
    async with grpc.aio.insecure_channel(f"{HOST}:{port}") as channel:
        yield Running(stub(channel), server, slots)
    await server.drain(0)


@contextlib.asynccontextmanager
async def local_tokenizer() -> AsyncIterator[Running]:
    settings = tokenizer_build.Settings(weights=nano_weights()["tokenizer"], listen=ANY, threads=1)
    engine = tokenizer_build.build(settings)
    server = tokenizer_servicer.make_server(engine, ANY, SLOTS)
    async with _serving(server, server.slots, tokenizer_pb2_grpc.SpeechTokenizerStub) as running:
        yield running
    engine.close()


@contextlib.asynccontextmanager
async def triton_tokenizer(url: str) -> AsyncIterator[Running]:
    async with connected(url, TOKENIZER, 60) as model:
        backend = await TritonTokenizerBackend.connect(model)
        server = tokenizer_servicer.make_server(backend, ANY, SLOTS, backend.check)
        async with _serving(server, server.slots, tokenizer_pb2_grpc.SpeechTokenizerStub) as running:
            running.model = model
            yield running


@contextlib.asynccontextmanager
async def local_decoder() -> AsyncIterator[Running]:
    settings = decoder_build.Settings(weights=nano_weights()["decoder"], listen=ANY, threads=1)
    engine = decoder_build.build(settings)
    server = decoder_servicer.make_server(engine, ANY, SLOTS)
    async with _serving(server, server.slots, decoder_pb2_grpc.SpeechDecoderStub) as running:
        yield running
    engine.close()


@contextlib.asynccontextmanager
async def triton_decoder(url: str) -> AsyncIterator[Running]:
    async with connected(url, DECODER, 60) as model:
        backend = await TritonDecoderBackend.connect(model)
        server = decoder_servicer.make_server(backend, ANY, SLOTS, backend.check)
        async with _serving(server, server.slots, decoder_pb2_grpc.SpeechDecoderStub) as running:
            running.model = model
            yield running


def _lm_server(servicer: VoiceLMServicer, slots: Slots) -> Server:
    return Server(LM_SERVICE, lambda s: lm_pb2_grpc.add_VoiceLMServicer_to_server(servicer, s), ANY, slots)


@contextlib.asynccontextmanager
async def local_lm() -> AsyncIterator[Running]:
    settings = lm_build.Settings(weights=nano_weights()["lm"], listen=ANY, threads=1, capacity=TRITON_SESSIONS)
    template = ChatTemplate.load(settings.weights)
    built = lm_build.build(settings, template)
    slots = Slots(SLOTS, "language model sessions")
    servicer = VoiceLMServicer(built.engine, template, slots, built.revision, built.kv_tokens)
    async with _serving(_lm_server(servicer, slots), slots, lm_pb2_grpc.VoiceLMStub) as running:
        yield running
    built.engine.stop()


@contextlib.asynccontextmanager
async def triton_lm(url: str) -> AsyncIterator[Running]:
    async with connected(url, LM, 60) as model:
        engine = await TritonEngine.connect(model)
        slots = Slots(SLOTS, "language model sessions")
        servicer = VoiceLMServicer(engine, engine.template, slots, engine.revision, engine.kv_tokens, engine.check)
        async with _serving(_lm_server(servicer, slots), slots, lm_pb2_grpc.VoiceLMStub) as running:
            running.model = model
            yield running


async def both(services: Sequence[Running], scenario: Callable[[Running], Awaitable[Any]]) -> Any:
    """Plays a scenario against each service, requires equal outcomes, and returns the outcome."""
    first, *others = [await scenario(service) for service in services]
    for other in others:
        assert other == first
    return first
