"""One VoiceLM.Converse stream: commands out, events in, and a mirror of the session's exact ids."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass

import grpc

from services.agent.models import Deadlines, ModelError, within
from trunkline.v1 import lm_pb2, lm_pb2_grpc


@dataclass(frozen=True)
class Sampling:
    """How an answer is drawn."""

    temperature: float
    top_p: float
    max_new_tokens: int
    seed: int


class LmSession:
    """A live session. Not for several tasks at once, except `cancel`, which may come from anywhere.

    After a `ModelError` the session is gone: open another with the conversation's ids.
    """

    def __init__(self, stub: "lm_pb2_grpc.VoiceLMAsyncStub", session_id: str, deadlines: Deadlines) -> None:
        self._stub = stub
        self._session_id = session_id
        self._deadlines = deadlines
        self._commands: asyncio.Queue[lm_pb2.ConverseRequest | None] = asyncio.Queue()
        self._waiters: deque[asyncio.Future[lm_pb2.ConverseResponse]] = deque()
        self._generation: asyncio.Queue[lm_pb2.ConverseResponse | ModelError] | None = None
        self._generating = False
        self._reader: asyncio.Task[None] | None = None
        self._failure: ModelError | None = None
        self.ids: list[int] = []

    @property
    def failed(self) -> bool:
        """The stream is over; nothing more can be asked of this session."""
        return self._failure is not None

    @property
    def settled(self) -> bool:
        """Nothing is under way: `ids` is what the service holds."""
        return not self._waiters and not self._generating

    async def open(self, ids: Iterable[int] = ()) -> None:
        """Opens the session, with the conversation so far.

        Raises:
            ModelError: refused (RESOURCE_EXHAUSTED: no slot), unreachable or silent.
        """
        tokens = list(ids)
        self._reader = asyncio.create_task(self._read(), name=f"lm-session-{self._session_id}")
        command = lm_pb2.ConverseRequest(open=lm_pb2.OpenSession(session_id=self._session_id, tokens=tokens))
        try:
            await within(self._deadlines.open_s, "lm", "answer to open", self._ask(command))
        except BaseException:
            await self.close()
            raise
        self.ids = tokens

    def append_system(self, text: str) -> "asyncio.Future[lm_pb2.ConverseResponse]":
        """Adds the system prompt; await the future (with `appended`) for its ids."""
        return self._ask(lm_pb2.ConverseRequest(append=lm_pb2.Append(system=text)))

    def append_speech(self, codes: Iterable[int]) -> "asyncio.Future[lm_pb2.ConverseResponse]":
        """Adds a piece of a spoken user turn; the service prefills it at once."""
        piece = lm_pb2.SpeechTokens(tokens=list(codes))
        return self._ask(lm_pb2.ConverseRequest(append=lm_pb2.Append(user_speech=piece)))

    def end_of_speech(self) -> "asyncio.Future[lm_pb2.ConverseResponse]":
        """Closes the spoken user turn."""
        return self._ask(lm_pb2.ConverseRequest(append=lm_pb2.Append(end_of_speech=lm_pb2.EndOfSpeech())))

    async def appended(self, future: "asyncio.Future[lm_pb2.ConverseResponse]") -> list[int]:
        """The exact ids of an append.

        Raises:
            ModelError: the session failed, or is silent.
        """
        event = await within(self._deadlines.append_s, "lm", "answer to append", future)
        return list(event.appended.tokens)

    async def truncate(self, length: int) -> None:
        """Keeps the first `length` ids; ends a generation under way.

        Raises:
            ModelError: the session failed, or is silent.
        """
        command = lm_pb2.ConverseRequest(truncate=lm_pb2.Truncate(length=length))
        await within(self._deadlines.append_s, "lm", "answer to truncate", self._ask(command))

    def cancel(self) -> None:
        """Ends a generation under way, if there is one."""
        if self._generating:
            self._commands.put_nowait(lm_pb2.ConverseRequest(cancel=lm_pb2.CancelGeneration()))

    async def generate(self, sampling: Sampling, say: str = "") -> AsyncIterator[lm_pb2.ConverseResponse]:
        """Generated events, then one Finished.

        Raises:
            ModelError: the session failed, or is silent.
        """
        if self._failure is not None:
            raise self._failure
        if self._generating:
            raise RuntimeError("a generation is under way")
        events: asyncio.Queue[lm_pb2.ConverseResponse | ModelError] = asyncio.Queue()
        self._generation, self._generating = events, True
        command = lm_pb2.Generate(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            seed=sampling.seed,
            max_new_tokens=sampling.max_new_tokens,
            say=say,
        )
        self._commands.put_nowait(lm_pb2.ConverseRequest(generate=command))
        patience = self._deadlines.first_s
        while True:
            event = await within(patience, "lm", "token", events.get())
            if isinstance(event, ModelError):
                raise event
            yield event
            if event.HasField("finished"):
                return
            patience = self._deadlines.next_s

    async def close(self) -> None:
        """Ends the session and its stream."""
        self._commands.put_nowait(lm_pb2.ConverseRequest(close=lm_pb2.CloseSession()))
        self._commands.put_nowait(None)
        reader, self._reader = self._reader, None
        if reader is not None:
            _, pending = await asyncio.wait({reader}, timeout=1.0)
            for task in pending:
                task.cancel()
            await asyncio.gather(reader, return_exceptions=True)

    def _ask(self, command: lm_pb2.ConverseRequest) -> "asyncio.Future[lm_pb2.ConverseResponse]":
        future: asyncio.Future[lm_pb2.ConverseResponse] = asyncio.get_running_loop().create_future()
        future.add_done_callback(_retrieve)
        if self._failure is not None:
            future.set_exception(self._failure)
            return future
        self._waiters.append(future)
        self._commands.put_nowait(command)
        return future

    async def _outgoing(self) -> AsyncIterator[lm_pb2.ConverseRequest]:
        while (command := await self._commands.get()) is not None:
            yield command

    async def _read(self) -> None:
        failure = ModelError("lm", grpc.StatusCode.CANCELLED, "the session was closed")
        stream = self._stub.Converse(self._outgoing())
        try:
            async for event in stream:
                self._take(event)
        except grpc.aio.AioRpcError as error:
            failure = ModelError.of("lm", error)
        finally:
            stream.cancel()
            self._fail(failure)

    def _take(self, event: lm_pb2.ConverseResponse) -> None:
        kind = event.WhichOneof("event")
        if kind == "generated":
            self.ids += event.generated.tokens
        elif kind == "appended":
            self.ids += event.appended.tokens
        elif kind == "truncated":
            del self.ids[event.truncated.length :]
        if kind in ("generated", "finished"):
            if kind == "finished":
                self._generating = False
            if self._generation is not None:
                self._generation.put_nowait(event)
        elif self._waiters:
            future = self._waiters.popleft()
            if not future.done():
                future.set_result(event)

    def _fail(self, failure: ModelError) -> None:
        self._failure = failure
        self._generating = False
        if self._generation is not None:
            self._generation.put_nowait(failure)
        while self._waiters:
            future = self._waiters.popleft()
            if not future.done():
                future.set_exception(failure)


def _retrieve(future: "asyncio.Future[lm_pb2.ConverseResponse]") -> None:
    """Marks an exception as seen: a piece of speech appended in passing may never be awaited after a failure."""
    if not future.cancelled():
        future.exception()
