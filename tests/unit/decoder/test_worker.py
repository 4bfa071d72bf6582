"""The worker's thread over a synthesizer whose steps the test lets pass one by one."""

import queue
import threading
from collections.abc import Iterator, Sequence

import pytest

from services.decoder.blocks import Block
from services.decoder.synthesis import Job, Synthesizer
from services.decoder.utterance import BlockWork, Pcm, StoppedError, Utterance
from services.decoder.voices import default_voice
from services.decoder.weights import Checkpoint
from services.decoder.worker import SynthesisWorker

PATIENCE_S = 20


class Stepped(Synthesizer):
    """A block is done after as many steps as it has frames; each step waits until the test allows it."""

    def __init__(self) -> None:
        self.groups: queue.Queue[list[Job]] = queue.Queue()
        self.allowed: queue.Queue[BaseException | None] = queue.Queue()
        self._steps: dict[Job, int] = {}

    def advance(self, jobs: Sequence[Job]) -> list[Pcm | Exception | None]:
        self.groups.put(list(jobs))
        failure = self.allowed.get(timeout=PATIENCE_S)
        if failure is not None:
            raise failure
        for job in jobs:
            self._steps[job] = self._steps.get(job, 0) + 1
        return [Pcm(b"", job.work.block.stop) if self._steps[job] == job.work.frames else None for job in jobs]


class Bench:
    def __init__(self, checkpoint: Checkpoint) -> None:
        self.steps = Stepped()
        self.worker = SynthesisWorker(self.steps, frame_budget=100)
        self.results: queue.Queue[tuple[Job, Pcm | BaseException]] = queue.Queue()
        self._checkpoint = checkpoint

    def submit(self, frames: int, start: int = 10, runs_out: float = 0.0) -> Job:
        utterance = Utterance(self._checkpoint, 0, default_voice(80))
        job = Job(utterance, BlockWork(Block(start, start + frames, last=False), frames))
        self.worker.submit(job, runs_out, lambda result: self.results.put((job, result)))
        return job

    def group(self) -> list[Job]:
        """The group whose step the worker wants to compute now."""
        return self.steps.groups.get(timeout=PATIENCE_S)

    def allow(self, failure: BaseException | None = None) -> None:
        self.steps.allowed.put(failure)

    def result(self) -> tuple[Job, Pcm | BaseException]:
        return self.results.get(timeout=PATIENCE_S)


@pytest.fixture
def bench(tiny: Checkpoint) -> Iterator[Bench]:
    made = Bench(tiny)
    yield made
    made.steps.allowed.put(None)  # for a step that is still waiting
    made.worker.close()


def test_blocks_join_and_leave_between_steps(bench: Bench) -> None:
    long = bench.submit(3)
    assert bench.group() == [long]
    short = bench.submit(2)
    bench.allow()
    assert bench.group() == [long, short]
    bench.allow()
    assert bench.group() == [long, short]
    bench.allow()
    assert {bench.result()[0] for _ in range(2)} == {long, short}
    assert bench.worker.pending == 0


def test_a_first_block_is_done_before_those_it_found(bench: Bench) -> None:
    steady = bench.submit(10, runs_out=-5.0)
    assert bench.group() == [steady]
    first = bench.submit(2, start=0)
    for _ in range(3):
        bench.allow()
    assert bench.result() == (first, Pcm(b"", 2))
    assert [bench.group() for _ in range(2)] == [[first], [first]]
    assert bench.worker.pending == 1


def test_a_stopped_utterance_leaves_at_the_next_step(bench: Bench) -> None:
    goes, stays = bench.submit(2), bench.submit(2)
    bench.group()
    goes.utterance.stop()
    bench.allow()
    job, result = bench.result()
    assert job is goes
    assert isinstance(result, StoppedError)
    assert bench.worker.pending == 1
    while stays not in bench.group():
        bench.allow()


def test_a_failure_is_told_to_the_group_and_the_thread_goes_on(bench: Bench) -> None:
    failed = bench.submit(2)
    bench.group()
    other = bench.submit(1, runs_out=1.0)
    bench.allow(RuntimeError("out of memory"))
    job, result = bench.result()
    assert job is failed
    assert isinstance(result, RuntimeError)
    assert bench.group() == [other]
    bench.allow()
    assert bench.result()[0] is other
    assert bench.worker.pending == 0


def test_closing_stops_what_is_not_done(bench: Bench) -> None:
    waiting = bench.submit(2)
    bench.group()
    closing = threading.Thread(target=bench.worker.close)
    closing.start()
    bench.allow()
    job, result = bench.result()
    assert job is waiting
    assert isinstance(result, StoppedError)
    closing.join(PATIENCE_S)
    assert not closing.is_alive()
    late = bench.submit(1)
    job, result = bench.result()
    assert job is late
    assert isinstance(result, StoppedError)
