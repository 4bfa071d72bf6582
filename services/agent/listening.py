"""One utterance of the caller on its way to tokens: PCM to the tokenizer while they speak, final codes out at once."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

import grpc

from services.agent.models import Deadlines, ModelError, within
from trunkline.v1 import tokenizer_pb2, tokenizer_pb2_grpc

ATTEMPTS = 2


class Utterance:
    """A tokenizer stream. Its audio is kept until the end, so that one broken stream costs a repeat, not the words.

    Args:
        on_codes: called with final codes as they come, each once and in order.
        audio: 16-bit mono PCM at the tokenizer's rate that it begins with.
        codes: final codes of that audio which are known already.
    """

    def __init__(
        self,
        stub: "tokenizer_pb2_grpc.SpeechTokenizerAsyncStub",
        call_id: str,
        deadlines: Deadlines,
        on_codes: Callable[[list[int]], None],
        audio: bytes = b"",
        codes: Sequence[int] = (),
    ) -> None:
        self._stub = stub
        self._call_id = call_id
        self._deadlines = deadlines
        self._on_codes = on_codes
        self._audio = [audio] if audio else []
        self._ended = False
        self._grew = asyncio.Event()
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
        self._grew.set()

    async def end(self) -> list[int]:
        """The utterance is over: waits for its last tokens and returns all its codes.

        Raises:
            ModelError: the tokenizer failed twice, or is silent.
        """
        if not self._ended:
            self._standing = len(self.codes)
            self._ended = True
        self._grew.set()
        await within(self._deadlines.tokens_s, "tokenizer", "last tokens", asyncio.shield(self._task))
        return self.codes

    def going_on(self, audio: bytes) -> "Utterance":
        """The same utterance, which had not ended after all, with all its audio so far; this one is dropped.

        Its last codes came of an end that was none, and come anew.
        """
        self.drop()
        standing = self.codes[: self._standing if self._ended else None]
        return Utterance(self._stub, self._call_id, self._deadlines, self._on_codes, audio, standing)

    def drop(self) -> None:
        """Ends its stream, if that is still open."""
        self._task.cancel()

    async def _run(self) -> None:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                await self._stream()
                return
            except ModelError as error:
                if attempt == ATTEMPTS or error.code is grpc.StatusCode.INVALID_ARGUMENT:
                    raise

    async def _stream(self) -> None:
        stream = self._stub.Tokenize(self._requests())
        try:
            async for response in stream:
                if not response.is_final:
                    continue
                # A repeated stream gives the same tokens again: only those beyond what is known are news.
                fresh = list(response.tokens)[max(0, len(self.codes) - response.start_index) :]
                if fresh:
                    self.codes += fresh
                    self._on_codes(fresh)
        except grpc.aio.AioRpcError as error:
            raise ModelError.of("tokenizer", error) from error
        finally:
            stream.cancel()

    async def _requests(self) -> AsyncIterator[tokenizer_pb2.TokenizeRequest]:
        config = tokenizer_pb2.TokenizeConfig(call_id=self._call_id)
        yield tokenizer_pb2.TokenizeRequest(config=config)
        sent = 0
        while True:
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
