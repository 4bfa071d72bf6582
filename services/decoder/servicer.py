"""`SpeechDecoder` over gRPC: messages to the engine's calls and back; nothing of models here."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, closing
from typing import Any, Protocol

import grpc

from services.common.errors import DrainingError, InvalidInputError
from services.common.grpc_server import Check, Server, Slots, answers
from services.common.reservations import Reservations, hold_until_cancelled
from services.common.telemetry import catalogue, traces
from services.common.telemetry.metrics import counter
from services.decoder.blocks import FIRST_BLOCK, NEXT_BLOCKS
from services.decoder.utterance import Pcm
from trunkline.v1 import decoder_pb2, decoder_pb2_grpc

SERVICE = "trunkline.v1.SpeechDecoder"
SAMPLE_BYTES = 2

_AUDIO = counter(catalogue.DECODER_AUDIO)

Context = grpc.aio.ServicerContext[Any, Any]


class UtteranceStream(Protocol):
    """An utterance at a backend; see `services.decoder.engine.SynthesisStream`."""

    def push(self, codes: Sequence[int]) -> AsyncIterator[Pcm]:
        """More tokens; yields the audio of every block that they complete."""

    def finish(self) -> AsyncIterator[Pcm]:
        """No more tokens; yields the rest."""

    def close(self) -> None:
        """Stops the computing."""


class Voices(Protocol):
    """What a backend knows of voices."""

    @property
    def ids(self) -> list[str]:
        """Registered voices."""

    @property
    def speaker_model(self) -> bool:
        """They have a speaker embedding of their own."""


class Backend(Protocol):
    """Where speech is synthesised: the engine of this process, or one at Triton."""

    sample_rate: int
    codebook_size: int
    token_rate: float
    revision: str

    @property
    def voices(self) -> Voices:
        """Registered voices."""

    def open(self, seed: int, voice_id: str) -> UtteranceStream:
        """A new utterance; close it."""

    async def register_voice(self, pcm: bytes, codes: Sequence[int]) -> str:
        """Takes a reference, returns the voice's id."""

    async def forget_voice(self, voice_id: str) -> None:
        """Drops a voice, if it is there."""


class SpeechDecoderServicer(decoder_pb2_grpc.SpeechDecoderServicer):
    """The contract of protos/trunkline/v1/decoder.proto."""

    def __init__(self, engine: Backend, slots: Slots, check: Check = answers) -> None:
        self._engine = engine
        self._slots = slots
        self._reservations = Reservations(slots)
        self._check = check

    async def Info(  # noqa: N802  the contract's name
        self, request: decoder_pb2.SpeechDecoderInfoRequest, context: Context
    ) -> decoder_pb2.SpeechDecoderInfoResponse:
        """What this replica can do. Raises UnavailableError while its backend does not answer."""
        await self._check()
        return decoder_pb2.SpeechDecoderInfoResponse(
            sample_rate=self._engine.sample_rate,
            codebook_size=self._engine.codebook_size,
            token_rate=self._engine.token_rate,
            first_block_tokens=FIRST_BLOCK,
            block_tokens=NEXT_BLOCKS,
            capacity=self._slots.capacity,
            active=self._slots.active,
            reserved=self._reservations.unused,
            model_revision=self._engine.revision,
            voices=self._engine.voices.ids,
            speaker_model=self._engine.voices.speaker_model,
        )

    async def Synthesize(  # noqa: N802
        self, request_iterator: AsyncIterator[decoder_pb2.SynthesizeRequest], context: Context
    ) -> AsyncIterator[decoder_pb2.SynthesizeResponse]:
        """One stream is one utterance; cancelling it frees its slot and stops its work."""
        with traces.serving(context, SERVICE, "Synthesize"):
            async with self._reservations.stream(context), aclosing(self._synthesise(request_iterator)) as responses:
                async for response in responses:
                    yield response

    async def _synthesise(
        self, request_iterator: AsyncIterator[decoder_pb2.SynthesizeRequest]
    ) -> AsyncGenerator[decoder_pb2.SynthesizeResponse, None]:
        first = await anext(request_iterator, None)
        if first is None:
            return
        config = first.config if first.WhichOneof("payload") == "config" else decoder_pb2.SynthesizeConfig()
        with closing(self._engine.open(config.seed, config.voice_id)) as stream:
            if first.WhichOneof("payload") != "config":
                async for pcm in stream.push(_codes(first)):
                    yield self._response(pcm)
            async for request in request_iterator:
                async for pcm in stream.push(_codes(request)):
                    yield self._response(pcm)
            async for pcm in stream.finish():
                yield self._response(pcm)

    async def Reserve(  # noqa: N802
        self, request: decoder_pb2.SpeechDecoderReserveRequest, context: Context
    ) -> AsyncIterator[decoder_pb2.SpeechDecoderReserveResponse]:
        """Holds a slot while the stream is open. Raises AtCapacityError or DrainingError."""
        with self._reservations.reserve() as reservation_id:
            yield decoder_pb2.SpeechDecoderReserveResponse(reservation_id=reservation_id)
            await hold_until_cancelled()

    async def RegisterVoice(  # noqa: N802
        self, request: decoder_pb2.RegisterVoiceRequest, context: Context
    ) -> decoder_pb2.RegisterVoiceResponse:
        """A voice from a reference recording."""
        if self._slots.draining:
            raise DrainingError("the service is draining; use another replica")
        rate = self._engine.sample_rate
        if request.sample_rate not in (0, rate):
            raise InvalidInputError(f"sample_rate {request.sample_rate}: reference audio must be at {rate} Hz")
        return decoder_pb2.RegisterVoiceResponse(
            voice_id=await self._engine.register_voice(request.pcm, list(request.codes))
        )

    async def ForgetVoice(  # noqa: N802
        self, request: decoder_pb2.ForgetVoiceRequest, context: Context
    ) -> decoder_pb2.ForgetVoiceResponse:
        """A voice that nobody may speak with any more."""
        await self._engine.forget_voice(request.voice_id)
        return decoder_pb2.ForgetVoiceResponse()

    def _response(self, pcm: Pcm) -> decoder_pb2.SynthesizeResponse:
        _AUDIO.add(len(pcm.data) / SAMPLE_BYTES / self._engine.sample_rate)
        return decoder_pb2.SynthesizeResponse(pcm=pcm.data, tokens_done=pcm.tokens_done)


def _codes(request: decoder_pb2.SynthesizeRequest) -> list[int]:
    payload = request.WhichOneof("payload")
    if payload == "config":
        raise InvalidInputError("config is only allowed as the first message")
    if payload is None:
        raise InvalidInputError("a message without payload: send config or codes")
    return list(request.codes.codes)


def make_server(engine: Backend, address: str, capacity: int, check: Check = answers) -> Server:
    """The service on `address`, not yet started."""
    slots = Slots(capacity, "decoder streams")
    servicer = SpeechDecoderServicer(engine, slots, check)
    return Server(
        SERVICE,
        lambda server: decoder_pb2_grpc.add_SpeechDecoderServicer_to_server(servicer, server),
        address,
        slots,
    )
