"""The wire side of VoiceLM: protos/trunkline/v1/lm.proto is the contract."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import grpc

from services.common.grpc_server import Check, Slots, answers
from services.common.reservations import Reservations, hold_until_cancelled
from services.lm.conversation import SERVICE as SERVICE
from services.lm.conversation import Conversation
from services.lm.engine import Engine
from services.lm.prompt import ChatTemplate
from trunkline.v1 import lm_pb2, lm_pb2_grpc


class VoiceLMServicer(lm_pb2_grpc.VoiceLMServicer):
    """One conversation per stream, as many as there are slots.

    Args:
        kv_tokens: tokens whose keys and values the engine can hold; 0 when it does not say.
        check: raises UnavailableError while the engine does not answer.
    """

    def __init__(
        self,
        engine: Engine,
        template: ChatTemplate,
        slots: Slots,
        revision: str,
        kv_tokens: int = 0,
        check: Check = answers,
    ) -> None:
        self._engine = engine
        self._template = template
        self._slots = slots
        self._reservations = Reservations(slots)
        self._revision = revision
        self._kv_tokens = kv_tokens
        self._check = check

    async def Info(  # noqa: N802
        self, request: lm_pb2.VoiceLMInfoRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> lm_pb2.VoiceLMInfoResponse:
        """Limits of this replica. Raises UnavailableError while its backend does not answer."""
        await self._check()
        vocabulary = self._template.vocabulary
        return lm_pb2.VoiceLMInfoResponse(
            vocab_size=vocabulary.size,
            speech_token_offset=vocabulary.speech_offset,
            codebook_size=vocabulary.codebook_size,
            context_length=self._engine.context_length,
            text_block=self._template.text_block,
            speech_block=self._template.speech_block,
            capacity=self._slots.capacity,
            active=self._slots.active,
            reserved=self._reservations.unused,
            model_revision=self._revision,
            kv_tokens=self._kv_tokens,
        )

    async def Converse(  # noqa: N802
        self,
        request_iterator: AsyncIterator[lm_pb2.ConverseRequest],
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> AsyncIterator[lm_pb2.ConverseResponse]:
        """One session, from open to the end of the stream."""
        async with self._reservations.stream(context):
            conversation = Conversation(self._engine, self._template)
            async with contextlib.aclosing(conversation.run(request_iterator)) as responses:
                async for response in responses:
                    yield response

    async def Reserve(  # noqa: N802
        self, request: lm_pb2.VoiceLMReserveRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[lm_pb2.VoiceLMReserveResponse]:
        """Holds a slot while the stream is open. Raises AtCapacityError or DrainingError."""
        with self._reservations.reserve() as reservation_id:
            yield lm_pb2.VoiceLMReserveResponse(reservation_id=reservation_id)
            await hold_until_cancelled()
