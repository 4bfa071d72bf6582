"""The thread that computes: takes the blocks that are due, a group at a time, a step at a time."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from opentelemetry.context import Context

from services.common.telemetry import traces
from services.common.telemetry.model_service import EngineMeter
from services.decoder.batcher import Due, choose
from services.decoder.synthesis import Job, Synthesizer
from services.decoder.utterance import Pcm, StoppedError

Done = Callable[[Pcm | BaseException], None]


@dataclass(eq=False)
class _Waiting:
    job: Job
    due: Due
    done: Done
    since: float  # when it became due
    trace: Context | None  # whose spans it has
    taken: float | None = None  # when the first step of it began


class SynthesisWorker:
    """Runs a `Synthesizer` on a thread of its own.

    Before each step it is decided anew who takes part, so a block that becomes due joins, and one whose caller hung up
    leaves, at the next step of the flow.

    Args:
        synthesizer: the models.
        frame_budget: mel frames, padding included, of the largest group.
    """

    def __init__(self, synthesizer: Synthesizer, frame_budget: int) -> None:
        self._synthesizer = synthesizer
        self._frame_budget = frame_budget
        self.meter = EngineMeter("decoder")
        self._changed = threading.Condition()
        self._waiting: list[_Waiting] = []
        self._count = 0
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="decoder", daemon=True)
        self._thread.start()

    @property
    def pending(self) -> int:
        """Blocks that are due or being computed."""
        with self._changed:
            return len(self._waiting)

    def submit(self, job: Job, runs_out: float, done: Done, trace: Context | None = None) -> None:
        """Computes a block. `done` is called once, on the worker's thread, with its audio or with what went wrong.

        Args:
            job: the block; no other of its utterance may be at the worker.
            runs_out: when the audio given out before it will have been played, seconds.
            done: gets `StoppedError` when the utterance was stopped or the worker closed.
            trace: whose spans it has.
        """
        with self._changed:
            if not self._closed:
                due = Due(job.work.frames, job.work.block.start == 0, runs_out, self._count)
                self._count += 1
                self._waiting.append(_Waiting(job, due, done, time.monotonic(), trace))
                self._changed.notify()
                return
        done(StoppedError())

    def close(self) -> None:
        """Ends the thread after the step it computes; blocks not done are stopped."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while group := self._next_group():
            began = time.monotonic()
            for item in group:
                if item.taken is None:
                    item.taken = began
                    self.meter.waited(began - item.since)
            try:
                found = self._synthesizer.advance([item.job for item in group])
                self.meter.stepped(len(group), time.monotonic() - began)
            except Exception as error:  # whatever the models raise belongs to those who asked, not to this thread
                self._finish([(item, error) for item in group])
            else:
                ready = zip(group, found, strict=True)
                self._finish([(item, result) for item, result in ready if result is not None])

    def _next_group(self) -> list[_Waiting]:
        """Waits for work; empty when the worker was closed."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                stopped = [item for item in self._waiting if self._closed or item.job.utterance.stopped]
                rest = [item for item in self._waiting if item not in stopped]
                group = [rest[index] for index in choose([item.due for item in rest], self._frame_budget)]
                closed = self._closed
            self._finish([(item, StoppedError()) for item in stopped])
            if group or closed:
                return group

    def _finish(self, results: list[tuple[_Waiting, Pcm | BaseException]]) -> None:
        with self._changed:
            for item, _ in results:
                self._waiting.remove(item)
        for item, result in results:
            item.done(result)
            if item.trace is not None and item.taken is not None:
                block = item.job.work.block
                traces.tell("queue", item.trace, item.since, item.taken)
                tokens = {"trunkline.decoder.tokens": block.stop - block.start}
                traces.tell("block", item.trace, item.taken, time.monotonic(), tokens)
