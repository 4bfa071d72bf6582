"""The engine over torch: one thread owns model and sessions; commands reach it through a queue, between steps."""

import asyncio
import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from services.common.errors import DrainingError
from services.common.telemetry import traces
from services.common.telemetry.model_service import EngineMeter
from services.lm.engine import Emit, Event, GenerationSettings
from services.lm.torch_engine.scheduler import Scheduler
from services.lm.torch_engine.sessions import SessionState
from services.lm.torch_engine.stages import AnswerStages

log = logging.getLogger(__name__)

T = TypeVar("T")


class TorchEngine:
    """Implements `services.lm.engine.Engine`. Commands of one session are executed in the order of their calls."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self.meter = EngineMeter("lm")
        self._traced: dict[SessionState, AnswerStages] = {}  # answers whose stages are told of
        self._commands: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._outbox = _Outbox()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="lm-engine", daemon=True)
        self._thread.start()

    @property
    def context_length(self) -> int:
        """Tokens of the longest session."""
        return self._scheduler.context_length

    @property
    def kv_tokens(self) -> int:
        """Tokens whose keys and values fit into memory, over all sessions."""
        return self._scheduler.kv_tokens

    @property
    def pending(self) -> int:
        """Sessions that have tokens to compute. From any thread."""
        return self._scheduler.pending

    @property
    def kv_used(self) -> float:
        """Share of the memory for keys and values that is taken. From any thread."""
        return self._scheduler.kv_used

    async def open(self, tokens: Sequence[int], emit: Emit) -> "TorchSession":
        """See `Engine.open`."""
        loop = asyncio.get_running_loop()

        def emit_on_loop(event: Event) -> None:
            self._outbox.put(loop, lambda: emit(event))

        opening = self.call(lambda: self._scheduler.open(tokens, emit_on_loop))
        try:
            state = await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(self._close_orphan)
            raise
        return TorchSession(self, self._scheduler, state)

    def stop(self) -> None:
        """Ends the thread after the present step."""
        self._stopped = True
        self._commands.put(None)
        self._thread.join()

    def call(self, command: Callable[[], T]) -> asyncio.Future[T]:
        """Runs `command` on the engine's thread, between steps; the future gives its outcome.

        Raises:
            DrainingError: the engine has stopped.
        """
        if self._stopped:
            raise DrainingError("the language model has stopped")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def settle(result: T | None, error: Exception | None) -> None:
            if future.cancelled():
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)  # type: ignore[arg-type]

        def execute() -> None:
            try:
                result = command()
            except Exception as error:  # goes to the caller, who awaits it
                self._outbox.put(loop, lambda error=error: settle(None, error))  # type: ignore[misc]
            else:
                self._outbox.put(loop, lambda: settle(result, None))

        self._commands.put(execute)
        return future

    def post(self, command: Callable[[], None]) -> None:
        """Runs `command` on the engine's thread; nobody waits for it."""
        self._commands.put(command)

    def trace(self, state: SessionState, stages: AnswerStages) -> None:
        """Has the stages of the answer that begins told of. On the engine's thread."""
        self._traced[state] = stages

    def _close_orphan(self, opening: "asyncio.Future[SessionState]") -> None:
        if not opening.cancelled() and opening.exception() is None:
            state = opening.result()
            self.post(lambda: self._scheduler.close(state))

    def _run(self) -> None:
        while True:
            command: Callable[[], None] | None
            try:
                command = self._commands.get(block=not self._scheduler.has_work)
            except queue.Empty:
                try:
                    self._step()
                except Exception:  # its sessions have been told; the others go on
                    log.exception("a step of the language model failed")
            else:
                if command is None:
                    return
                command()
            if self._traced:
                self._tell_of_finished()
            self._outbox.send()

    def _step(self) -> None:
        began = time.monotonic()
        served = self._scheduler.step().served
        ended = time.monotonic()
        self.meter.stepped(len(served), ended - began)
        for state in served:
            if state.due is not None:
                self.meter.waited(began - state.due)
                state.due = None
            if state in self._traced:
                self._traced[state].served(began, ended, len(state.tokens))

    def _tell_of_finished(self) -> None:
        for state in [state for state in self._traced if state.answer is None]:
            self._traced.pop(state).tell(time.monotonic(), len(state.tokens))


class TorchSession:
    """Implements `services.lm.engine.Session`."""

    def __init__(self, engine: TorchEngine, scheduler: Scheduler, state: SessionState) -> None:
        self._engine = engine
        self._scheduler = scheduler
        self._state = state

    @property
    def tokens(self) -> Sequence[int]:
        """All ids of the session; stable while nothing is being generated."""
        return self._state.tokens

    async def append(self, tokens: Sequence[int]) -> int:
        """See `Session.append`."""
        asked = time.monotonic()

        def append() -> int:
            length = self._scheduler.append(self._state, tokens)
            self._state.due = self._state.due or asked
            return length

        return await self._engine.call(append)

    async def generate(self, settings: GenerationSettings) -> None:
        """See `Session.generate`."""
        asked, parent = time.monotonic(), traces.current()

        def generate() -> None:
            self._scheduler.generate(self._state, settings)
            self._state.due = self._state.due or asked
            if parent is not None:
                self._engine.trace(self._state, AnswerStages(parent, asked, len(self._state.tokens)))

        await self._engine.call(generate)

    async def truncate(self, length: int) -> int:
        """See `Session.truncate`."""
        return await self._engine.call(lambda: self._scheduler.truncate(self._state, length))

    async def cancel(self) -> None:
        """See `Session.cancel`."""
        await self._engine.call(lambda: self._scheduler.cancel(self._state))

    def close(self) -> None:
        """See `Session.close`."""
        self._engine.post(lambda: self._scheduler.close(self._state))


class _Outbox:
    """Callbacks for event loops, in order; all that a step brings wake a loop once."""

    def __init__(self) -> None:
        self._waiting: dict[asyncio.AbstractEventLoop, list[Callable[[], None]]] = {}

    def put(self, loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
        self._waiting.setdefault(loop, []).append(callback)

    def send(self) -> None:
        waiting, self._waiting = self._waiting, {}
        for loop, callbacks in waiting.items():
            with contextlib.suppress(RuntimeError):  # the loop has ended, and nobody waits any more
                loop.call_soon_threadsafe(_run_all, callbacks)


def _run_all(callbacks: Sequence[Callable[[], None]]) -> None:
    for callback in callbacks:
        callback()
