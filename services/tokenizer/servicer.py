"""The wire: `trunkline.v1.SpeechTokenizer` over the engine."""

import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import ExitStack, aclosing, closing
from typing import Any, Protocol

import grpc

from services.common.errors import InvalidInputError
from services.common.grpc_server import Check, Server, Slots, answers
from services.common.reservations import Reservations, hold_until_cancelled
from services.common.telemetry import catalogue, traces
from services.common.telemetry.metrics import counter
from services.tokenizer.engine import SAMPLE_BYTES, TokenizerInfo
from services.tokenizer.streaming import Tokens
from trunkline.v1 import tokenizer_pb2 as pb
from trunkline.v1 import tokenizer_pb2_grpc as pb_grpc

log = logging.getLogger(__name__)

SERVICE = "trunkline.v1.SpeechTokenizer"

_AUDIO = counter(catalogue.TOKENIZER_AUDIO)

Context = grpc.aio.ServicerContext[Any, Any]


class UtteranceStream(Protocol):
    """An utterance at a backend; see `services.tokenizer.engine.LiveUtterance`."""

    samples: int

    def push(self, pcm: bytes) -> AsyncGenerator[Tokens, None]:
        """Takes more audio and yields the tokens that it completes."""

    def finish(self) -> AsyncGenerator[Tokens, None]:
        """Ends the utterance and yields its last tokens."""

    def close(self) -> None:
        """Gives back what the utterance holds, also in its middle."""


class Backend(Protocol):
    """Where utterances are tokenised: the engine of this process, or one at Triton."""

    @property
    def info(self) -> TokenizerInfo:
        """Its limits; constant."""

    def open(self, interim_results: bool) -> UtteranceStream:
        """A new utterance; close it."""


class SpeechTokenizerServicer(pb_grpc.SpeechTokenizerServicer):
    """One stream is one utterance and one slot."""

    def __init__(self, engine: Backend, slots: Slots, check: Check = answers) -> None:
        self._engine = engine
        self._slots = slots
        self._reservations = Reservations(slots)
        self._check = check
        self._info = engine.info

    async def Info(  # noqa: N802 - the contract's name
        self, request: pb.SpeechTokenizerInfoRequest, context: Context
    ) -> pb.SpeechTokenizerInfoResponse:
        """What this replica can do. Raises UnavailableError while its backend does not answer."""
        await self._check()
        info = self._info
        return pb.SpeechTokenizerInfoResponse(
            sample_rate=info.sample_rate,
            codebook_size=info.codebook_size,
            token_rate=info.sample_rate / info.token_samples,
            block_tokens=info.block_tokens,
            capacity=self._slots.capacity,
            active=self._slots.active,
            reserved=self._reservations.unused,
            model_revision=info.revision,
            max_seconds=info.max_seconds,
        )

    async def Tokenize(  # noqa: N802 - the contract's name
        self, request_iterator: AsyncIterator[pb.TokenizeRequest], context: Context
    ) -> AsyncIterator[pb.TokenizeResponse]:
        """Audio in, tokens out as they become final.

        Raises:
            InvalidInputError: config after the first message or with another sample rate, an empty message, half a
                sample, or too much audio.
            AtCapacityError: every stream is taken.
            DrainingError: the service is stopping.
        """
        with traces.serving(context, SERVICE, "Tokenize"):
            async with self._reservations.stream(context), aclosing(self._tokenize(request_iterator)) as responses:
                async for response in responses:
                    yield response

    async def Reserve(  # noqa: N802 - the contract's name
        self, request: pb.SpeechTokenizerReserveRequest, context: Context
    ) -> AsyncIterator[pb.SpeechTokenizerReserveResponse]:
        """Holds a slot while the stream is open. Raises AtCapacityError or DrainingError."""
        with self._reservations.reserve() as reservation_id:
            yield pb.SpeechTokenizerReserveResponse(reservation_id=reservation_id)
            await hold_until_cancelled()

    async def _tokenize(
        self, request_iterator: AsyncIterator[pb.TokenizeRequest]
    ) -> AsyncGenerator[pb.TokenizeResponse, None]:
        with ExitStack() as held:
            config = pb.TokenizeConfig()
            utterance: UtteranceStream | None = None
            first = True
            async for request in request_iterator:
                kind = request.WhichOneof("payload")
                if kind == "config":
                    if not first:
                        raise InvalidInputError("config is allowed only as the first message of a stream")
                    config = request.config
                    self._check_rate(config.sample_rate)
                elif kind == "pcm":
                    utterance = utterance or held.enter_context(closing(self._engine.open(config.interim_results)))
                    _AUDIO.add(len(request.pcm) / SAMPLE_BYTES / self._info.sample_rate)
                    async with aclosing(utterance.push(request.pcm)) as results:
                        async for tokens in results:
                            yield self._response(tokens)
                else:
                    raise InvalidInputError("a message holds config or pcm; this one holds neither")
                first = False
            utterance = utterance or held.enter_context(closing(self._engine.open(config.interim_results)))
            async with aclosing(utterance.finish()) as results:
                async for tokens in results:
                    yield self._response(tokens)
            log.info("utterance tokenised", extra={"call_id": config.call_id, "samples": utterance.samples})

    def _check_rate(self, rate: int) -> None:
        if rate not in (0, self._info.sample_rate):
            raise InvalidInputError(
                f"sample_rate {rate} is not supported; this tokenizer takes {self._info.sample_rate} Hz"
            )

    def _response(self, tokens: Tokens) -> pb.TokenizeResponse:
        return pb.TokenizeResponse(
            start_index=tokens.start,
            start_ms=tokens.start * self._info.token_samples * 1000 // self._info.sample_rate,
            tokens=tokens.ids,
            is_final=tokens.final,
        )


def make_server(engine: Backend, address: str, capacity: int, check: Check = answers) -> Server:
    """A server of this service on `address`, not yet started."""
    slots = Slots(capacity, "tokenizer streams")
    servicer = SpeechTokenizerServicer(engine, slots, check)
    return Server(
        SERVICE, lambda server: pb_grpc.add_SpeechTokenizerServicer_to_server(servicer, server), address, slots
    )
