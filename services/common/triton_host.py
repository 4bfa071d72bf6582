"""Inside Triton: a model's sessions, each a stream of an engine, fed by the requests that the python backend hands in.

Triton calls `execute` for one request after another and waits for its return; so nothing is computed there. Requests
go to an event loop on a thread of its own, where the engines live; what they give goes out through a second thread,
because handing a response to Triton blocks for a moment (about 0.1 ms).
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from opentelemetry.trace import SpanKind

from services.common.errors import AtCapacityError, InvalidInputError, ServiceError, UnavailableError
from services.common.telemetry import traces
from services.common.triton_guard import Guard
from services.common.triton_metrics import Watched
from services.common.triton_reply import Outbox, Reply
from services.common.triton_wire import (
    CLOSE,
    INFO,
    JSON,
    KEEP,
    LEASE_MS,
    OPEN,
    REVISION,
    Parameters,
    Tensors,
    number,
    other_weights,
    text,
)

log = logging.getLogger(__name__)

POLL_S = 0.5
MODEL = "trunkline.triton.model"  # attribute of spans
_ENDED = "Triton has ended the session"


@dataclass(frozen=True)
class Command:
    """One request.

    Attributes:
        name: what to do.
        session: Triton's sequence id.
        inputs: arrays by input name; those that were not sent are absent.
        parameters: the request's.
        traceparent: of whose trace it is (W3C Trace Context); empty for none.
    """

    name: str
    session: str
    inputs: Tensors
    parameters: Parameters
    traceparent: str = ""

    def list(self, name: str) -> list[int]:
        """An input's numbers; none where it was not sent."""
        return self.inputs[name].tolist() if name in self.inputs else []

    def bytes(self, name: str) -> bytes:
        """An input's bytes; none where it was not sent."""
        return self.inputs[name].tobytes() if name in self.inputs else b""

    def required(self, name: str) -> str | int | float | bool:
        """A parameter. Raises InvalidInputError where it is absent."""
        if name not in self.parameters:
            raise InvalidInputError(f"{self.name} needs the parameter {name!r}")
        return self.parameters[name]


class ModelSession(Protocol):
    """An engine's stream. Used from one task at a time."""

    async def execute(self, command: Command, reply: Reply) -> None:
        """Executes a command, answers with `reply`; returning without `reply.finish` leaves it open for later."""

    def close(self) -> None:
        """Ends the stream, whatever is being computed for it."""


class HostedModel(Protocol):
    """An engine as the host sees it."""

    revision: str  # names the weights

    @property
    def watched(self) -> Watched:
        """Its engine."""

    async def start(self) -> None:
        """Called once, on the loop that everything else is called on."""

    def describe(self) -> str:
        """The answer to `info`: a JSON object."""

    async def open(self, command: Command, hold: Reply) -> ModelSession:
        """A session. A failure that `hold` is told later ends it at the client."""

    async def ask(self, command: Command) -> Tensors:
        """The answer to a question outside any session."""

    def stop(self) -> None:
        """Ends the engine."""


@dataclass(eq=False)
class _Session:
    hold: Reply  # answers `open`, and lives as long as the session
    expires: float
    commands: asyncio.Queue[tuple[Command, Reply]] = field(default_factory=asyncio.Queue)
    task: asyncio.Task[None] | None = None
    ending: bool = False

    def end(self) -> None:
        """Ends the session's task, and with it the session."""
        self.ending = True
        if self.task is not None:
            self.task.cancel()


class Host:
    """Runs a model's sessions.

    Args:
        model: what is hosted.
        outbox: sends replies.
        capacity: sessions at once.
        lease_s: a session that says nothing for so long is ended, seconds.
        on_count: told the number of live sessions whenever it changes.
        on_poll: called, on some thread, every `poll_s`.
        name: of the model, for traces.
        clock: seconds.
        poll_s: how often Triton is asked whether clients are still there, and whether it lives, seconds.
    """

    def __init__(
        self,
        model: HostedModel,
        outbox: Outbox,
        capacity: int,
        lease_s: float,
        on_count: Callable[[int], None] = lambda count: None,
        on_poll: Callable[[], None] = lambda: None,
        name: str = "",
        clock: Callable[[], float] = time.monotonic,
        poll_s: float = POLL_S,
    ) -> None:
        self._model = model
        self._outbox = outbox
        self._capacity = capacity
        self._lease_s = lease_s
        self._on_count = on_count
        self._on_poll = on_poll
        self._name = name
        self._clock = clock
        self._poll_s = poll_s
        self._guard = Guard(poll_s)
        self._sessions: dict[str, _Session] = {}
        self._questions: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="triton-host", daemon=True)
        self._watch: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Starts the model and the threads. Raises what the model's start raises."""
        self._guard.start()
        self._thread.start()
        self._call(self._start())

    def submit(self, command: Command, reply: Reply) -> None:
        """Takes a request; returns at once. Requests of a session are executed in the order of the calls."""
        self._loop.call_soon_threadsafe(self._take, command, reply)

    def stop(self) -> None:
        """Ends all sessions, the model and the threads."""
        self._call(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._outbox.stop()
        self._guard.stop()

    def _call(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _start(self) -> None:
        await self._model.start()
        self._watch = asyncio.create_task(self._watch_clients(), name="triton-watch")
        self._on_count(0)

    async def _stop(self) -> None:
        tasks = [*self._questions, *(session.task for session in self._sessions.values() if session.task)]
        tasks += [self._watch] if self._watch else []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.to_thread(self._model.stop)

    def _take(self, command: Command, reply: Reply) -> None:
        if not command.session:
            task = self._loop.create_task(self._answer(command, reply))
            self._questions.add(task)
            task.add_done_callback(self._questions.discard)
        elif command.name == OPEN:
            self._open(command, reply)
        elif command.session in self._sessions:
            self._pass_on(self._sessions[command.session], command, reply)
        else:
            reply.fail(UnavailableError("no such session at Triton: its lease has ended, or the server was restarted"))

    def _open(self, command: Command, hold: Reply) -> None:
        if command.session in self._sessions:
            hold.fail(InvalidInputError(f"session {command.session} is open already"))
        elif sum(not session.ending for session in self._sessions.values()) >= self._capacity:
            hold.fail(AtCapacityError(f"all {self._capacity} sessions at Triton are taken; try again later"))
        else:
            session = _Session(hold, self._clock() + self._lease_s)
            self._sessions[command.session] = session
            session.task = self._loop.create_task(self._run(session, command))
            session.task.add_done_callback(lambda _: self._forget(command.session))
            self._on_count(len(self._sessions))

    def _forget(self, name: str) -> None:
        session = self._sessions.pop(name)
        self._on_count(len(self._sessions))
        while not session.commands.empty():
            session.commands.get_nowait()[1].fail(UnavailableError(_ENDED))
        session.hold.finish()

    def _pass_on(self, session: _Session, command: Command, reply: Reply) -> None:
        session.expires = self._clock() + self._lease_s
        if command.name == KEEP:
            reply.finish()
        elif command.name == CLOSE:
            # Not queued behind other commands: what they still compute is not wanted any more.
            session.end()
            reply.finish()
        else:
            session.commands.put_nowait((command, reply))

    async def _run(self, session: _Session, opening: Command) -> None:
        """A session's life."""
        with traces.continuing(f"{self._name} session", opening.traceparent, {MODEL: self._name}):
            await self._serve(session, opening)

    async def _serve(self, session: _Session, opening: Command) -> None:
        stream: ModelSession | None = None
        reply = session.hold
        try:
            self._check_revision(opening)
            stream = await self._model.open(opening, session.hold)
            session.hold.send({LEASE_MS: number(round(self._lease_s * 1000))})
            while True:
                command, reply = await session.commands.get()
                try:
                    await self._execute(stream, command, reply)
                except Exception as error:  # goes to the client, who may go on
                    _log_unforeseen(error)
                    reply.fail(error)
        except Exception as error:  # it could not be opened
            _log_unforeseen(error)
            session.hold.fail(error)
        finally:
            if stream is not None:
                stream.close()
            if reply is not session.hold:
                reply.fail(UnavailableError(_ENDED))  # where it was not finished

    async def _execute(self, stream: ModelSession, command: Command, reply: Reply) -> None:
        parent = traces.received(command.traceparent)
        if parent is None:
            await stream.execute(command, reply)
            return
        span = traces.begin(f"{self._name} {command.name}", parent, SpanKind.SERVER, {MODEL: self._name})
        reply.when_over(span.end)
        with traces.within(span):
            await stream.execute(command, reply)

    def _check_revision(self, opening: Command) -> None:
        expected = opening.parameters.get(REVISION, self._model.revision)
        if expected != self._model.revision:
            raise UnavailableError(other_weights(str(expected), self._model.revision))

    async def _answer(self, command: Command, reply: Reply) -> None:
        try:
            if command.name == INFO:
                reply.send({JSON: text(self._model.describe())})
            else:
                reply.send(await self._model.ask(command))
        except Exception as error:  # goes to the client
            _log_unforeseen(error)
            reply.fail(error)
        finally:
            reply.finish()

    async def _watch_clients(self) -> None:
        """Ends the sessions of clients that vanished."""
        while True:
            await asyncio.sleep(self._poll_s)
            sessions = list(self._sessions.values())
            gone = await asyncio.to_thread(self._poll, [session.hold for session in sessions])
            now = self._clock()
            for session, left in zip(sessions, gone, strict=True):
                if left or now > session.expires:
                    log.info("a session's client is gone", extra={"by": "cancellation" if left else "lease"})
                    session.end()

    def _poll(self, holds: Sequence[Reply]) -> list[bool]:
        """Which of these have no client any more."""
        self._on_poll()
        return [hold.is_cancelled() for hold in holds]


def _log_unforeseen(error: Exception) -> None:
    if not isinstance(error, ServiceError):
        log.error("unexpected failure", exc_info=error)
