"""The three model services as the agent sees them: channels, limits, deadlines, and failures in plain words."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import grpc

from services.common.channels import channel
from trunkline.v1 import decoder_pb2, decoder_pb2_grpc, lm_pb2, lm_pb2_grpc, tokenizer_pb2, tokenizer_pb2_grpc

T = TypeVar("T")

_CHANNEL_OPTIONS = [
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2_000),
]


class ModelError(Exception):
    """A model service failed, refused or kept silent.

    Attributes:
        stage: `tokenizer`, `lm` or `decoder`.
        code: gRPC status; DEADLINE_EXCEEDED for silence.
    """

    def __init__(self, stage: str, code: grpc.StatusCode, detail: str) -> None:
        super().__init__(f"{stage}: {code.name}: {detail}")
        self.stage = stage
        self.code = code

    @classmethod
    def of(cls, stage: str, error: grpc.aio.AioRpcError) -> "ModelError":
        """From what grpc raises."""
        return cls(stage, error.code(), error.details() or "")


@dataclass(frozen=True)
class Deadlines:
    """Longest silence of a service that a call puts up with, seconds."""

    open_s: float = 8.0  # an LM session opened, the system prompt prefilled
    append_s: float = 8.0
    first_s: float = 8.0  # the first token, the first PCM
    next_s: float = 8.0  # each further one
    tokens_s: float = 8.0  # the tokenizer's last tokens after the end of the utterance


@dataclass(frozen=True)
class Limits:
    """What the services publish and the agent relies on."""

    codebook_size: int
    context_length: int
    pcm_rate: int  # of the decoder, hertz
    max_utterance_s: float


class ModelServices:
    """Channels to the three services, shared by all calls of an agent."""

    def __init__(self, tokenizer: str, lm: str, decoder: str, deadlines: Deadlines | None = None) -> None:
        self.deadlines = deadlines or Deadlines()
        self.addresses = {"tokenizer": tokenizer, "lm": lm, "decoder": decoder}
        self._channels = {stage: channel(address, _CHANNEL_OPTIONS) for stage, address in self.addresses.items()}
        self.tokenizer = tokenizer_pb2_grpc.SpeechTokenizerStub(self._channels["tokenizer"])
        self.lm = lm_pb2_grpc.VoiceLMStub(self._channels["lm"])
        self.decoder = decoder_pb2_grpc.SpeechDecoderStub(self._channels["decoder"])
        self._limits: Limits | None = None

    @property
    def limits(self) -> Limits:
        """Published limits; known after `connect`."""
        if self._limits is None:
            raise RuntimeError("connect() first")
        return self._limits

    async def connect(self, patience_s: float, input_rate: int) -> Limits:
        """Waits until all three answer, and checks that they fit together.

        Args:
            patience_s: how long each may take to come up.
            input_rate: of the PCM that the agent will send to the tokenizer, hertz.

        Raises:
            ModelError: one is not reachable in time, or they do not fit together.
        """
        until = time.monotonic() + patience_s
        tokenizer, lm, decoder = await self._infos(until)
        sizes = {"tokenizer": tokenizer.codebook_size, "lm": lm.codebook_size, "decoder": decoder.codebook_size}
        if len(set(sizes.values())) != 1:
            said = ", ".join(f"{stage} {size}" for stage, size in sizes.items())
            raise ModelError("lm", grpc.StatusCode.FAILED_PRECONDITION, f"codebook sizes differ: {said}")
        if tokenizer.sample_rate != input_rate:
            raise ModelError(
                "tokenizer",
                grpc.StatusCode.FAILED_PRECONDITION,
                f"wants PCM at {tokenizer.sample_rate} Hz; the agent sends {input_rate} Hz",
            )
        self._limits = Limits(
            lm.codebook_size, lm.context_length, decoder.sample_rate, float(tokenizer.max_seconds or 30)
        )
        return self._limits

    async def reachable(self, timeout_s: float = 2.0) -> str | None:
        """None when all three answer now, else which one does not."""
        until = time.monotonic() + timeout_s
        try:
            await self._infos(until)
        except ModelError as error:
            return error.stage
        return None

    async def close(self) -> None:
        """Closes the channels."""
        for connection in self._channels.values():
            await connection.close()

    async def _info(self, stage: str, until: float, ask: Callable[[float], Awaitable[T]]) -> T:
        try:
            return await ask(max(0.1, until - time.monotonic()))
        except grpc.aio.AioRpcError as error:
            detail = f"{self.addresses[stage]} is not reachable ({error.code().name})"
            raise ModelError(stage, grpc.StatusCode.UNAVAILABLE, detail) from error

    async def _infos(
        self, until: float
    ) -> tuple[
        tokenizer_pb2.SpeechTokenizerInfoResponse, lm_pb2.VoiceLMInfoResponse, decoder_pb2.SpeechDecoderInfoResponse
    ]:
        async def tokenizer(left: float) -> tokenizer_pb2.SpeechTokenizerInfoResponse:
            request = tokenizer_pb2.SpeechTokenizerInfoRequest()
            return await self.tokenizer.Info(request, timeout=left, wait_for_ready=True)

        async def lm(left: float) -> lm_pb2.VoiceLMInfoResponse:
            return await self.lm.Info(lm_pb2.VoiceLMInfoRequest(), timeout=left, wait_for_ready=True)

        async def decoder(left: float) -> decoder_pb2.SpeechDecoderInfoResponse:
            return await self.decoder.Info(decoder_pb2.SpeechDecoderInfoRequest(), timeout=left, wait_for_ready=True)

        return await asyncio.gather(
            self._info("tokenizer", until, tokenizer),
            self._info("lm", until, lm),
            self._info("decoder", until, decoder),
        )


async def within(seconds: float, stage: str, waiting_for: str, what: Awaitable[T]) -> T:
    """Awaits with a deadline.

    Raises:
        ModelError: DEADLINE_EXCEEDED, or what the service failed with.
    """
    try:
        async with asyncio.timeout(seconds):
            return await what
    except TimeoutError as error:
        detail = f"no {waiting_for} within {seconds:g} s"
        raise ModelError(stage, grpc.StatusCode.DEADLINE_EXCEEDED, detail) from error
    except grpc.aio.AioRpcError as error:
        raise ModelError.of(stage, error) from error
