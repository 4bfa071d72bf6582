"""One answer of the bot: LM tokens to the decoder as they are generated, PCM out as it is synthesised."""

import asyncio
from collections.abc import AsyncIterator
from typing import Protocol

import grpc

from services.agent.conversation import Answer
from services.agent.lm_session import LmSession, Sampling
from services.agent.models import ModelError, ModelServices, within
from trunkline.v1 import decoder_pb2, lm_pb2

ATTEMPTS = 2


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
        session: positioned where the answer begins.
        seed: of the decoder's noise.
    """

    def __init__(
        self, models: ModelServices, session: LmSession, sink: AnswerSink, call_id: str, voice: str, seed: int
    ) -> None:
        self._models = models
        self._session = session
        self._sink = sink
        self._config = decoder_pb2.SynthesizeConfig(seed=seed, voice_id=voice, call_id=call_id)
        self._codes: list[int] = []
        self._ended = False
        self._grew = asyncio.Event()
        self._pcm_bytes = 0
        self.answer = Answer(start=len(session.ids))

    async def run(self, sampling: Sampling, say: str = "") -> None:
        """Generates and synthesises to the end. Cancelling it stops the decoder, and the LM after its current step.

        Raises:
            ModelError: the LM failed, or the decoder did twice.
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
        for attempt in range(1, ATTEMPTS + 1):
            try:
                await self._stream()
                return
            except ModelError as error:
                if attempt == ATTEMPTS or error.code is grpc.StatusCode.INVALID_ARGUMENT:
                    raise

    async def _stream(self) -> None:
        """One decoder stream; a second one repeats the first one's waveform, of which what is known is skipped."""
        stream = self._models.decoder.Synthesize(self._requests())
        skip = self._pcm_bytes
        responses = aiter(stream)
        try:
            patience = self._models.deadlines.first_s
            while True:
                response = await within(patience, "decoder", "PCM", _next(responses))
                if response is None:
                    return
                # While the LM still thinks, the decoder may rightly wait: its silence is bounded by the LM's.
                patience = self._models.deadlines.next_s
                pcm = response.pcm[skip:]
                skip = max(0, skip - len(response.pcm))
                if pcm:
                    self._pcm_bytes += len(pcm)
                    self._sink.stage("first_pcm")
                    self._sink.pcm(pcm, response.tokens_done)
        finally:
            stream.cancel()

    async def _requests(self) -> AsyncIterator[decoder_pb2.SynthesizeRequest]:
        yield decoder_pb2.SynthesizeRequest(config=self._config)
        sent = 0
        while True:
            self._grew.clear()
            if sent < len(self._codes):
                codes = decoder_pb2.SpeechCodes(codes=self._codes[sent:])
                sent = len(self._codes)
                yield decoder_pb2.SynthesizeRequest(codes=codes)
            elif self._ended:
                return
            else:
                await self._grew.wait()


async def _next(
    responses: AsyncIterator[decoder_pb2.SynthesizeResponse],
) -> decoder_pb2.SynthesizeResponse | None:
    return await anext(responses, None)


def _first(errors: BaseExceptionGroup[ModelError]) -> ModelError:
    for error in errors.exceptions:
        return _first(error) if isinstance(error, BaseExceptionGroup) else error
    raise AssertionError("an empty exception group")
