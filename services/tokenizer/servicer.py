"""The wire: `trunkline.v1.SpeechTokenizer` over the engine."""

import logging
from collections.abc import AsyncIterator
from typing import Any

import grpc

from services.common.errors import InvalidInputError
from services.common.grpc_server import Server, Slots
from services.tokenizer.engine import LiveUtterance, TokenizerEngine
from services.tokenizer.streaming import Tokens
from trunkline.v1 import tokenizer_pb2 as pb
from trunkline.v1 import tokenizer_pb2_grpc as pb_grpc

log = logging.getLogger(__name__)

SERVICE = "trunkline.v1.SpeechTokenizer"

Context = grpc.aio.ServicerContext[Any, Any]


class SpeechTokenizerServicer(pb_grpc.SpeechTokenizerServicer):
    """One stream is one utterance and one slot."""

    def __init__(self, engine: TokenizerEngine, slots: Slots) -> None:
        self._engine = engine
        self._slots = slots
        checkpoint = engine.checkpoint
        self._rate = checkpoint.log_mel.config.sample_rate
        self._token_samples = checkpoint.token_samples

    async def Info(  # noqa: N802 - the contract's name
        self, request: pb.SpeechTokenizerInfoRequest, context: Context
    ) -> pb.SpeechTokenizerInfoResponse:
        """What this replica can do."""
        config = self._engine.checkpoint.encoder.config
        return pb.SpeechTokenizerInfoResponse(
            sample_rate=self._rate,
            codebook_size=config.codes,
            token_rate=self._rate / self._token_samples,
            block_tokens=config.block_frames // config.pooling,
            capacity=self._slots.capacity,
            active=self._slots.active,
            model_revision=self._engine.checkpoint.revision,
            max_seconds=self._engine.max_seconds,
        )

    async def Tokenize(  # noqa: N802 - the contract's name
        self, request_iterator: AsyncIterator[pb.TokenizeRequest], context: Context
    ) -> AsyncIterator[pb.TokenizeResponse]:
        """Audio in, tokens out as they become final.

        Raises:
            InvalidInputError: config after the first message, an empty message, or audio out of range.
            AtCapacityError: every stream is taken.
            DrainingError: the service is stopping.
        """
        with self._slots.take():
            config = pb.TokenizeConfig()
            utterance: LiveUtterance | None = None
            first = True
            async for request in request_iterator:
                kind = request.WhichOneof("payload")
                if kind == "config":
                    if not first:
                        raise InvalidInputError("config is allowed only as the first message of a stream")
                    config = request.config
                elif kind == "pcm":
                    utterance = utterance or self._engine.open(config.interim_results)
                    async for tokens in utterance.push(request.pcm):
                        yield self._response(tokens)
                else:
                    raise InvalidInputError("a message holds config or pcm; this one holds neither")
                first = False
            utterance = utterance or self._engine.open(config.interim_results)
            async for tokens in utterance.finish():
                yield self._response(tokens)
            log.info("utterance tokenised", extra={"call_id": config.call_id, "samples": utterance.samples})

    def _response(self, tokens: Tokens) -> pb.TokenizeResponse:
        return pb.TokenizeResponse(
            start_index=tokens.start,
            start_ms=tokens.start * self._token_samples * 1000 // self._rate,
            tokens=tokens.ids,
            is_final=tokens.final,
        )


def make_server(engine: TokenizerEngine, address: str, capacity: int) -> Server:
    """A server of this service on `address`, not yet started."""
    slots = Slots(capacity, "tokenizer streams")
    servicer = SpeechTokenizerServicer(engine, slots)
    return Server(
        SERVICE, lambda server: pb_grpc.add_SpeechTokenizerServicer_to_server(servicer, server), address, slots
    )
