"""The three model services as far as they are alike: Info, Reserve, and which replica suits a call."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import grpc

from trunkline.v1 import decoder_pb2, decoder_pb2_grpc, lm_pb2, lm_pb2_grpc, tokenizer_pb2, tokenizer_pb2_grpc

S = TypeVar("S")


class Published(Protocol):
    """What every Info response says."""

    capacity: int
    active: int
    codebook_size: int
    model_revision: str


class ReserveCall(Protocol):
    """An open Reserve stream."""

    async def read(self) -> Any:
        """Its next message."""

    def cancel(self) -> bool:
        """Ends it."""

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        """Calls back when it has ended."""

    def done(self) -> bool:
        """It has ended."""


@dataclass(frozen=True)
class Stage(Generic[S]):
    """A model service.

    Attributes:
        name: in errors and logs.
        service: full name in protos, for the health service.
        stub: makes a stub on a channel.
        info: a message for its Info call.
        reserve: makes a message for its Reserve call, of a call id.
        sticky: calls have something to gain from going to the same replica again.
    """

    name: str
    service: str
    stub: Callable[[grpc.aio.Channel], S]
    info: Any
    reserve: Callable[[str], Any]
    sticky: bool = False


TOKENIZER: "Stage[tokenizer_pb2_grpc.SpeechTokenizerAsyncStub]" = Stage(
    "tokenizer",
    "trunkline.v1.SpeechTokenizer",
    tokenizer_pb2_grpc.SpeechTokenizerStub,
    tokenizer_pb2.SpeechTokenizerInfoRequest(),
    lambda call_id: tokenizer_pb2.SpeechTokenizerReserveRequest(call_id=call_id),
)
LM: "Stage[lm_pb2_grpc.VoiceLMAsyncStub]" = Stage(
    "lm",
    "trunkline.v1.VoiceLM",
    lm_pb2_grpc.VoiceLMStub,
    lm_pb2.VoiceLMInfoRequest(),
    lambda call_id: lm_pb2.VoiceLMReserveRequest(call_id=call_id),
    sticky=True,
)
DECODER: "Stage[decoder_pb2_grpc.SpeechDecoderAsyncStub]" = Stage(
    "decoder",
    "trunkline.v1.SpeechDecoder",
    decoder_pb2_grpc.SpeechDecoderStub,
    decoder_pb2.SpeechDecoderInfoRequest(),
    lambda call_id: decoder_pb2.SpeechDecoderReserveRequest(call_id=call_id),
)
