"""One utterance of the caller on its way to tokens: PCM to the tokenizer while they speak, final codes out at once."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import grpc

from services.agent.models import Limits, ModelError, within
from services.agent.replicas.places import Place, Seat
from services.agent.replicas.retry import ATTEMPTS, attempts
from services.agent.replicas.vigil import watched
from services.common.telemetry import traces
from trunkline.v1 import tokenizer_pb2, tokenizer_pb2_grpc

SAMPLE_BYTES = 2
LOOK_AHEAD_S = 0.2  # audio beyond a token that a tokenizer may want to see before it is final


class Utterance:
    """A tokenizer stream. Its audio is kept until the end: a replica that dies costs a repeat elsewhere, not the words.

    Args:
        on_codes: called with final codes as they come, each once and in order.
        audio: 16-bit mono PCM at the tokenizer's rate that it begins with.
        codes: final codes of that audio which are known already.
    """

    def __init__(
        self,
        place: "Place[tokenizer_pb2_grpc.SpeechTokenizerAsyncStub]",
        call_id: str,
        limits: Limits,
        on_codes: Callable[[list[int]], None],
        audio: bytes = b"",
        codes: Sequence[int] = (),
    ) -> None:
        self._place = place
        self._call_id = call_id
        self._limits = limits
        self._on_codes = on_codes
        self._audio = [audio] if audio else []
        self._audio_bytes = len(audio)
        self._ended = False
        self._grew = asyncio.Event()
        self._streams = 0  # that are over
        self.codes = list(codes)
        self._standing = 0  # codes that more audio would not change, once it has ended
        self._task = asyncio.create_task(self._run(), name=f"utterance-{call_id}")
        self._task.add_done_callback(_retrieve)

    @property
    def failed(self) -> bool:
        """The tokenizer gave up on it."""
        return self._task.done() and not self._task.cancelled() and self._task.exception() is not None

    def feed(self, pcm: bytes) -> None:
        """Adds 16-bit mono PCM at the tokenizer's rate."""
        self._audio.append(pcm)
        self._audio_bytes += len(pcm)
        self._grew.set()

    async def end(self) -> list[int]:
        """The utterance is over: waits for its last tokens and returns all its codes.

        Raises:
            ModelError: no tokenizer gave them, or all are silent.
        """
        if not self._ended:
            self._standing = len(self.codes)
            self._ended = True
        self._grew.set()
        # Each attempt has its own, shorter patience with a replica; this is all that a caller is asked for.
        longest = ATTEMPTS * self._place.pool.deadlines.silence_s
        await within(longest, "tokenizer", "last tokens", asyncio.shield(self._task))
        return self.codes

    def going_on(self, audio: bytes) -> "Utterance":
        """The same utterance, which had not ended after all, with all its audio so far; this one is dropped.

        Its last codes came of an end that was none, and come anew.
        """
        self.drop()
        standing = self.codes[: self._standing if self._ended else None]
        return Utterance(self._place, self._call_id, self._limits, self._on_codes, audio, standing)

    def drop(self) -> None:
        """Ends its stream, if that is still open."""
        self._task.cancel()

    async def _run(self) -> None:
        async for attempt in attempts(self._place.pool.budget):
            with attempt:
                await self._stream(attempt.retry_state.attempt_number == ATTEMPTS)

    async def _stream(self, last: bool) -> None:
        """On one replica. Any gives the same tokens: only those beyond what is known are news."""
        place = self._place
        seat = await place.seat()
        with traces.asking(place.pool.stage.service, "Tokenize") as span:
            await self._exchange(seat, (*seat.metadata, *traces.metadata(span)), last)

    async def _exchange(self, seat: "Seat[Any]", metadata: tuple[tuple[str, str], ...], last: bool) -> None:
        place = self._place
        call = seat.replica.stub.Tokenize(self._requests(self._streams), metadata=metadata)
        received = 0

        def due() -> bool:
            return self._ended or received < self._final_by_now()

        try:
            async with watched(call, place.pool, seat.replica, due, place.pool.deadlines.silence_s, last) as vigil:
                async for response in call:
                    vigil.heard()
                    if not response.is_final:
                        continue
                    received = response.start_index + len(response.tokens)
                    fresh = list(response.tokens)[max(0, len(self.codes) - response.start_index) :]
                    if fresh:
                        self.codes += fresh
                        self._on_codes(fresh)
                if not self._ended:
                    raise ModelError("tokenizer", grpc.StatusCode.UNAVAILABLE, "the stream ended before the utterance")
        except ModelError as error:
            if error.elsewhere:
                place.failed(seat.replica)
            raise
        finally:
            self._streams += 1
            self._grew.set()  # grpc.aio leaves who reads the requests waiting when a call ends by itself

    def _final_by_now(self) -> int:
        """How many tokens the audio so far should have made final."""
        limits = self._limits
        seconds = self._audio_bytes / SAMPLE_BYTES / limits.input_rate - LOOK_AHEAD_S
        return int(max(0.0, seconds) * limits.token_rate) // limits.final_tokens * limits.final_tokens

    async def _requests(self, before: int) -> AsyncIterator[tokenizer_pb2.TokenizeRequest]:
        config = tokenizer_pb2.TokenizeConfig(call_id=self._call_id)
        yield tokenizer_pb2.TokenizeRequest(config=config)
        sent = 0
        while self._streams == before:
            self._grew.clear()
            if sent < len(self._audio):
                piece = b"".join(self._audio[sent:])
                sent = len(self._audio)
                yield tokenizer_pb2.TokenizeRequest(pcm=piece)
            elif self._ended:
                return
            else:
                await self._grew.wait()


def _retrieve(task: "asyncio.Task[None]") -> None:
    """Marks a failure as seen: an utterance may be dropped before anyone asks for its end."""
    if not task.cancelled():
        task.exception()
