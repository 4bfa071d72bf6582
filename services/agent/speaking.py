"""One answer of the bot: LM tokens to the decoder as they are generated, PCM out as it is synthesised."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any, Protocol

import grpc

from services.agent.conversation import Answer
from services.agent.lm_session import LmSession, Sampling
from services.agent.models import ModelError
from services.agent.replicas.places import Place, Seat
from services.agent.replicas.retry import ATTEMPTS, attempts
from services.agent.replicas.vigil import watched
from services.common.telemetry import traces
from trunkline.v1 import decoder_pb2, decoder_pb2_grpc, lm_pb2


class AnswerSink(Protocol):
    """Where an answer goes while it is made."""

    def text(self, piece: str) -> None:
        """Text as it is generated."""

    def text_complete(self) -> None:
        """No more text follows."""

    def stage(self, name: str) -> None:
        """A stage of the waterfall was reached."""

    def pcm(self, pcm: bytes, tokens_done: int) -> None:
        """16-bit PCM at the decoder's rate; `tokens_done` speech tokens are sounded once it has been played."""


class Speaker:
    """Makes one answer.

    Args:
        decoder: where it is synthesised.
        blocks: tokens of the decoder's first block, the second and so on; the last size repeats.
        session: positioned where the answer begins.
        seed: of the decoder's noise.
    """

    def __init__(
        self,
        decoder: "Place[decoder_pb2_grpc.SpeechDecoderAsyncStub]",
        blocks: Sequence[int],
        session: LmSession,
        sink: AnswerSink,
        call_id: str,
        voice: str,
        seed: int,
    ) -> None:
        self._decoder = decoder
        self._blocks = blocks
        self._session = session
        self._sink = sink
        self._config = decoder_pb2.SynthesizeConfig(seed=seed, voice_id=voice, call_id=call_id)
        self._codes: list[int] = []
        self._ended = False
        self._grew = asyncio.Event()
        self._streams = 0  # that are over
        self._pcm_bytes = 0
        self.answer = Answer(start=len(session.ids))

    async def run(self, sampling: Sampling, say: str = "") -> None:
        """Generates and synthesises to the end. Cancelling it stops the decoder, and the LM after its current step.

        Raises:
            ModelError: the LM failed for good, or the decoder did.
        """
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._generate(sampling, say))
                group.create_task(self._synthesise())
        except* ModelError as errors:
            raise _first(errors) from errors
        finally:
            self._session.cancel()

    async def _generate(self, sampling: Sampling, say: str) -> None:
        async for event in self._session.generate(sampling, say):
            if not event.HasField("generated"):
                continue
            generated = event.generated
            is_speech = generated.kind == lm_pb2.TOKEN_KIND_SPEECH
            self.answer.add(generated.tokens, is_speech, generated.text)
            if generated.kind != lm_pb2.TOKEN_KIND_CONTROL:
                self._sink.stage("first_lm_token")
            if generated.text:
                self._sink.text(generated.text)
            if is_speech:
                self._sink.stage("first_speech_token")
                self._codes += generated.speech
                self._grew.set()
        self.answer.complete = True
        self._sink.text_complete()
        self._ended = True
        self._grew.set()

    async def _synthesise(self) -> None:
        while not self._codes:
            if self._ended:
                return  # the model had nothing to say aloud
            self._grew.clear()
            await self._grew.wait()
        async for attempt in attempts(self._decoder.pool.budget):
            with attempt:
                await self._stream(attempt.retry_state.attempt_number == ATTEMPTS)

    async def _stream(self, last: bool) -> None:
        """On one replica. Any gives the same waveform: what is known of it already is skipped, to the sample."""
        place = self._decoder
        seat = await place.seat()
        with traces.asking(place.pool.stage.service, "Synthesize") as span:
            await self._exchange(seat, (*seat.metadata, *traces.metadata(span)), last)

    async def _exchange(self, seat: "Seat[Any]", metadata: tuple[tuple[str, str], ...], last: bool) -> None:
        place = self._decoder
        call = seat.replica.stub.Synthesize(self._requests(self._streams), metadata=metadata)
        skip = self._pcm_bytes
        blocks = 0

        def due() -> bool:
            # While the LM still thinks, the decoder may rightly wait: its silence is bounded by the LM's.
            return self._ended or blocks < full_blocks(len(self._codes), self._blocks)

        deadlines = place.pool.deadlines
        try:
            async with watched(call, place.pool, seat.replica, due, deadlines.silence_s, last) as vigil:
                async for response in call:
                    vigil.heard()
                    blocks += 1
                    pcm = response.pcm[skip:]
                    skip = max(0, skip - len(response.pcm))
                    if pcm:
                        self._pcm_bytes += len(pcm)
                        self._sink.stage("first_pcm")
                        self._sink.pcm(pcm, response.tokens_done)
                if not self._ended:
                    raise ModelError("decoder", grpc.StatusCode.UNAVAILABLE, "the stream ended before the answer")
        except ModelError as error:
            if error.elsewhere:
                place.failed(seat.replica)
            raise
        finally:
            self._streams += 1
            self._grew.set()  # grpc.aio leaves who reads the requests waiting when a call ends by itself

    async def _requests(self, before: int) -> AsyncIterator[decoder_pb2.SynthesizeRequest]:
        yield decoder_pb2.SynthesizeRequest(config=self._config)
        sent = 0
        while self._streams == before:
            self._grew.clear()
            if sent < len(self._codes):
                codes = decoder_pb2.SpeechCodes(codes=self._codes[sent:])
                sent = len(self._codes)
                yield decoder_pb2.SynthesizeRequest(codes=codes)
            elif self._ended:
                return
            else:
                await self._grew.wait()


def full_blocks(tokens: int, sizes: Sequence[int]) -> int:
    """How many whole blocks so many tokens make; the last size repeats."""
    count = 0
    while tokens >= (size := sizes[min(count, len(sizes) - 1)]):
        tokens -= size
        count += 1
    return count


def _first(errors: BaseExceptionGroup[ModelError]) -> ModelError:
    for error in errors.exceptions:
        return _first(error) if isinstance(error, BaseExceptionGroup) else error
    raise AssertionError("an empty exception group")
