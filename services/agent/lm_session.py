"""An LM session of a call: commands out, events in, and a mirror of the session's exact ids, whichever replica has it.

A session is soft state: opened from the same ids, any replica goes on in the same way. So when its replica dies, is
silent or drains, the session opens another VoiceLM.Converse stream elsewhere, says again what was not answered, and
goes on with the answer under way from the ids that came. Who uses it notices nothing but the time that this takes.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field, replace

import grpc

from services.agent.models import ModelError, within
from services.agent.replicas.places import Place, Seat
from services.agent.replicas.retry import ATTEMPTS, attempts
from services.agent.replicas.vigil import watched
from services.common.telemetry import traces
from trunkline.v1 import lm_pb2, lm_pb2_grpc

Response = lm_pb2.ConverseResponse


@dataclass(frozen=True)
class Sampling:
    """How an answer is drawn."""

    temperature: float
    top_p: float
    max_new_tokens: int
    seed: int

    def command(self, say: str, resume: bool, traceparent: str = "") -> lm_pb2.ConverseRequest:
        """As the service is told, as part of a trace."""
        generate = lm_pb2.Generate(
            temperature=self.temperature,
            top_p=self.top_p,
            seed=self.seed,
            max_new_tokens=self.max_new_tokens,
            say=say,
            resume=resume,
        )
        return lm_pb2.ConverseRequest(generate=generate, traceparent=traceparent)


@dataclass(eq=False)
class _Answer:
    """An answer under way."""

    sampling: Sampling
    say: str
    traceparent: str = ""
    events: "asyncio.Queue[Response | ModelError]" = field(default_factory=asyncio.Queue)
    begun: bool = False  # its head is part of the session
    tokens: int = 0  # of it, the head not counted
    cancelled: bool = False
    over: bool = False

    def rest(self) -> lm_pb2.ConverseRequest | None:
        """The command that makes what is still to come of it; none when nothing is."""
        left = self.sampling.max_new_tokens - self.tokens
        if self.cancelled or left <= 0:
            return None
        return replace(self.sampling, max_new_tokens=left).command(self.say, self.begun, self.traceparent)


@dataclass(eq=False)
class _Asked:
    """A command, and who waits for its answer."""

    command: lm_pb2.ConverseRequest
    answered: "asyncio.Future[Response]"


class LmSession:
    """A live session. Not for several tasks at once, except `cancel`, which may come from anywhere.

    After a `ModelError` the session is gone: open another with the conversation's ids.
    """

    def __init__(self, place: "Place[lm_pb2_grpc.VoiceLMAsyncStub]", session_id: str) -> None:
        self._place = place
        self._session_id = session_id
        self._silence_s = place.pool.deadlines.silence_s
        self._asked: deque[_Asked] = deque()
        self._answer: _Answer | None = None
        self._commands: asyncio.Queue[lm_pb2.ConverseRequest | None] | None = None  # of the stream at hand
        self._seat: Seat[lm_pb2_grpc.VoiceLMAsyncStub] | None = None
        self._opened: asyncio.Future[None] | None = None
        self._is_open = False  # on the stream at hand
        self._heard = False  # it got further since the last failure
        self._moves = False
        self._closing = False
        self._running: asyncio.Task[None] | None = None
        self._failure: ModelError | None = None
        self.ids: list[int] = []

    @property
    def failed(self) -> bool:
        """No replica goes on with it; nothing more can be asked of this session."""
        return self._failure is not None

    @property
    def settled(self) -> bool:
        """Nothing is under way: `ids` is what the service holds."""
        return not self._asked and (self._answer is None or self._answer.over)

    async def open(self, ids: Iterable[int] = ()) -> None:
        """Opens the session, with the conversation so far.

        Raises:
            ModelError: refused (RESOURCE_EXHAUSTED: no slot), unreachable or silent.
        """
        self.ids = list(ids)
        self._opened = asyncio.get_running_loop().create_future()
        self._opened.add_done_callback(_retrieve)
        self._place.moved = self._place_moved
        self._running = asyncio.create_task(self._run(), name=f"lm-session-{self._session_id}")
        try:
            await within(ATTEMPTS * self._silence_s, "lm", "answer to open", self._opened)
        except BaseException:
            await self.close()
            raise

    def append_system(self, text: str) -> "asyncio.Future[Response]":
        """Adds the system prompt; await the future (with `appended`) for its ids."""
        return self._ask(lm_pb2.ConverseRequest(append=lm_pb2.Append(system=text)))

    def append_speech(self, codes: Iterable[int]) -> "asyncio.Future[Response]":
        """Adds a piece of a spoken user turn; the service prefills it at once."""
        piece = lm_pb2.SpeechTokens(tokens=list(codes))
        return self._ask(lm_pb2.ConverseRequest(append=lm_pb2.Append(user_speech=piece)))

    def end_of_speech(self) -> "asyncio.Future[Response]":
        """Closes the spoken user turn."""
        return self._ask(lm_pb2.ConverseRequest(append=lm_pb2.Append(end_of_speech=lm_pb2.EndOfSpeech())))

    async def appended(self, future: "asyncio.Future[Response]") -> list[int]:
        """The exact ids of an append.

        Raises:
            ModelError: the session failed, or is silent.
        """
        event = await within(ATTEMPTS * self._silence_s, "lm", "answer to append", future)
        return list(event.appended.tokens)

    async def truncate(self, length: int) -> None:
        """Keeps the first `length` ids; ends a generation under way.

        Raises:
            ModelError: the session failed, or is silent.
        """
        command = lm_pb2.ConverseRequest(truncate=lm_pb2.Truncate(length=length))
        if self._answer is not None:
            self._answer.cancelled = True
        await within(ATTEMPTS * self._silence_s, "lm", "answer to truncate", self._ask(command))

    def cancel(self) -> None:
        """Ends a generation under way, if there is one."""
        answer = self._answer
        if answer is not None and not answer.over:
            answer.cancelled = True
            self._send(lm_pb2.ConverseRequest(cancel=lm_pb2.CancelGeneration()))

    async def generate(self, sampling: Sampling, say: str = "") -> AsyncIterator[Response]:
        """Generated events, then one Finished.

        Raises:
            ModelError: the session failed, or is silent.
        """
        if self._failure is not None:
            raise self._failure
        if self._answer is not None and not self._answer.over:
            raise RuntimeError("a generation is under way")
        with traces.asking(self._place.pool.stage.service, "Converse") as span:
            traceparent = "" if span is None else traces.traceparent(span)
            answer = self._answer = _Answer(sampling, say, traceparent)
            self._send(sampling.command(say, resume=False, traceparent=traceparent))
            while True:
                event = await answer.events.get()
                if isinstance(event, ModelError):
                    raise event
                yield event
                if event.HasField("finished"):
                    return

    async def close(self) -> None:
        """Ends the session and its stream."""
        self._closing = True
        self._send(lm_pb2.ConverseRequest(close=lm_pb2.CloseSession()))
        if self._commands is not None:
            self._commands.put_nowait(None)
        running, self._running = self._running, None
        if running is not None:
            _, pending = await asyncio.wait({running}, timeout=1.0 if self._is_open else 0.0)
            for task in pending:
                task.cancel()
            await asyncio.gather(running, return_exceptions=True)
        self._fail(ModelError("lm", grpc.StatusCode.CANCELLED, "the session was closed"))

    def _ask(self, command: lm_pb2.ConverseRequest) -> "asyncio.Future[Response]":
        command.traceparent = traces.traceparent()
        future: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        future.add_done_callback(_retrieve)
        if self._failure is not None:
            future.set_exception(self._failure)
            return future
        self._asked.append(_Asked(command, future))
        self._send(command)
        return future

    def _send(self, command: lm_pb2.ConverseRequest) -> None:
        if self._commands is not None:  # else the next stream begins with it
            self._commands.put_nowait(command)

    def _place_moved(self) -> None:
        """The call's place is on another replica: the session goes there as soon as it stands still."""
        there, here = self._place.replica, self._seat
        self._moves = there is not None and here is not None and there is not here.replica
        self._move_if_settled()

    def _move_if_settled(self) -> None:
        if self._moves and self._is_open and self.settled and self._commands is not None:
            self._commands.put_nowait(lm_pb2.ConverseRequest(close=lm_pb2.CloseSession()))
            self._commands.put_nowait(None)
            self._commands = None  # what is asked from now on is said on the next stream
            self._is_open = False

    async def _run(self) -> None:
        """One stream after another, until the session is closed or no replica goes on with it."""
        budget = self._place.pool.budget
        try:
            while not self._closing:
                self._heard = False
                try:
                    async for attempt in attempts(budget, until=lambda: self._heard):
                        with attempt:
                            await self._stream(attempt.retry_state.attempt_number == ATTEMPTS)
                except ModelError as error:
                    if not (self._heard and error.elsewhere and budget.spend()):
                        raise
        except ModelError as error:
            self._fail(error)
        finally:
            if self._place.moved == self._place_moved:
                self._place.moved = _nothing

    async def _stream(self, last: bool) -> None:
        """The session on one replica."""
        place = self._place
        seat = self._seat = await place.seat()
        self._moves = self._is_open = False
        commands = self._begin()
        call = seat.replica.stub.Converse(_each(commands), metadata=seat.metadata)
        try:
            async with watched(call, place.pool, seat.replica, self._is_due, self._silence_s, last) as vigil:
                async for event in call:
                    vigil.heard()
                    self._take(event)
                    self._move_if_settled()
                if not self._closing and self._commands is not None:
                    raise ModelError("lm", grpc.StatusCode.UNAVAILABLE, "the stream ended before the session")
        except ModelError as error:
            if self._closing:
                return
            if error.elsewhere:
                place.failed(seat.replica)
            raise
        finally:
            self._commands = None
            commands.put_nowait(None)  # grpc.aio leaves who reads them waiting when a call ends by itself

    def _begin(self) -> "asyncio.Queue[lm_pb2.ConverseRequest | None]":
        """Commands that bring a new stream to where the session is."""
        commands = self._commands = asyncio.Queue()
        opening = lm_pb2.OpenSession(session_id=self._session_id, tokens=self.ids)
        commands.put_nowait(lm_pb2.ConverseRequest(open=opening))
        answer = self._answer
        if answer is not None and not answer.over:
            rest = answer.rest()
            if rest is not None:
                commands.put_nowait(rest)
            else:
                full = answer.tokens >= answer.sampling.max_new_tokens
                reason = lm_pb2.FINISH_REASON_MAX_TOKENS if full else lm_pb2.FINISH_REASON_CANCELLED
                self._finished(Response(finished=lm_pb2.Finished(reason=reason, length=len(self.ids))))
        for asked in self._asked:
            commands.put_nowait(asked.command)
        if self._closing:
            commands.put_nowait(None)
        return commands

    def _is_due(self) -> bool:
        return not self._is_open or not self.settled

    def _take(self, event: Response) -> None:
        kind = event.WhichOneof("event")
        if kind == "opened":
            self._is_open = True
            if self._opened is not None and not self._opened.done():
                self._opened.set_result(None)
            return
        self._heard = True
        if kind == "generated":
            self.ids += event.generated.tokens
            if self._answer is not None:
                self._answer.begun = True
                if event.generated.kind != lm_pb2.TOKEN_KIND_CONTROL:
                    self._answer.tokens += len(event.generated.tokens)
                self._answer.events.put_nowait(event)
        elif kind == "finished":
            self._finished(event)
        else:
            if kind == "appended":
                self.ids += event.appended.tokens
            elif kind == "truncated":
                del self.ids[event.truncated.length :]
            if self._asked:
                asked = self._asked.popleft()
                if not asked.answered.done():
                    asked.answered.set_result(event)

    def _finished(self, event: Response) -> None:
        if self._answer is not None and not self._answer.over:
            self._answer.over = True
            self._answer.events.put_nowait(event)

    def _fail(self, failure: ModelError) -> None:
        if self._failure is not None:
            return
        self._failure = failure
        if self._opened is not None and not self._opened.done():
            self._opened.set_exception(failure)
        if self._answer is not None and not self._answer.over:
            self._answer.over = True
            self._answer.events.put_nowait(failure)
        while self._asked:
            asked = self._asked.popleft()
            if not asked.answered.done():
                asked.answered.set_exception(failure)


async def _each(
    commands: "asyncio.Queue[lm_pb2.ConverseRequest | None]",
) -> AsyncIterator[lm_pb2.ConverseRequest]:
    while (command := await commands.get()) is not None:
        yield command


def _nothing() -> None:
    """Nobody wants to know."""


def _retrieve(future: "asyncio.Future[Response] | asyncio.Future[None]") -> None:
    """Marks an exception as seen: a piece of speech appended in passing may never be awaited after a failure."""
    if not future.cancelled():
        future.exception()
