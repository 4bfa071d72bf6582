"""The three model services in virtual time: the engines' own batching decides, tables say how long it takes."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import cast

from loadtest.sim.clock import Action, Clock
from loadtest.sim.costs import Outside
from loadtest.sim.processors import Processors
from loadtest.sim.report import DecoderSteps, LmSteps, TokenizerSteps
from services.decoder.batcher import Due, choose
from services.decoder.blocks import Block, BlockSchedule, history_start
from services.lm.answer import Answer
from services.lm.torch_engine.blocks import Blocks, KVCache
from services.lm.torch_engine.planning import Batch, Chunks, Planner
from services.lm.torch_engine.sessions import Memory, SessionState
from services.tokenizer.batcher import Batcher


class _Engine:
    """One thread that computes a step at a time; background work of its process makes its steps longer."""

    def __init__(self, clock: Clock, processors: Processors) -> None:
        self.clock = clock
        self.processors = processors
        self.used_s = 0.0
        self.calls = 0
        self._busy = False

    def compute(self, seconds: float, done: Action) -> None:
        """A step."""
        assert not self._busy
        self._busy = True
        self.used_s += seconds

        def end() -> None:
            self._busy = False
            done()

        self.processors.run(seconds, end)

    @property
    def busy(self) -> bool:
        """A step is being computed."""
        return self._busy


@dataclass(eq=False)
class Encoding:
    """Work of an utterance for the tokenizer."""

    frames: int
    done: Action
    dropped: bool = False


class Tokenizer(_Engine):
    """See `services.tokenizer.engine`: what is due while a batch is computed goes together as the next."""

    def __init__(self, clock: Clock, processors: Processors, steps: TokenizerSteps, outside: Outside) -> None:
        super().__init__(clock, processors)
        self._steps = steps
        self._outside = outside
        self._batcher: Batcher[Encoding] = Batcher(steps.batch_frames)

    def encode(self, work: Encoding, urgent: bool) -> None:
        """Tells `work.done` when its tokens are there."""
        self._batcher.add(work, work.frames, urgent)
        self.clock.after(0.0, self._start)  # what else becomes due now joins

    def drop(self, work: Encoding) -> None:
        """Nobody waits for it any more."""
        work.dropped = True
        self._batcher.discard(work)

    def _start(self) -> None:
        if self.busy:
            return
        batch = self._batcher.take()
        if batch:
            longest = max(work.frames for work in batch)
            seconds = self._steps.encode.at(len(batch), longest, "tokenizer.encode", self._outside)
            seconds += self._steps.stream_s * sum(work.frames for work in batch) / 50
            self.compute(seconds, lambda: self._end(batch))

    def _end(self, batch: list[Encoding]) -> None:
        for work in batch:
            if not work.dropped:
                work.done()
        self._start()


@dataclass(eq=False)
class Script:
    """An answer whose course is known: how many tokens each step adds, and whether they are speech."""

    steps: Iterator[tuple[int, bool]]
    on_tokens: Callable[[int, bool], None]
    on_end: Action


def free_answer(text: int, speech: int, text_block: int, speech_block: int) -> Iterator[tuple[int, bool]]:
    """The steps of an answer that the model writes: a token each, text and speech interleaved."""
    while text or speech:
        for _ in range(min(text, text_block)):
            yield 1, False
        for _ in range(min(speech, speech_block) if text > text_block else speech):
            yield 1, True
        speech -= min(speech, speech_block) if text > text_block else speech
        text -= min(text, text_block)


def given_answer(text: int, speech: int, text_block: int, speech_block: int) -> Iterator[tuple[int, bool]]:
    """The same for a text that is given: its blocks come at once."""
    block = 0
    for count, is_speech in free_answer(text, speech, text_block, speech_block):
        if not is_speech:
            block += count
            continue
        if block:
            yield block, False
            block = 0
        yield 1, True


class LanguageModel(_Engine):
    """See `services.lm.torch_engine`: `Planner` decides each step, as it does in the service."""

    def __init__(self, clock: Clock, processors: Processors, steps: LmSteps, outside: Outside) -> None:
        super().__init__(clock, processors)
        self._steps = steps
        self._outside = outside
        self._blocks = Blocks(steps.kv_tokens)
        chunks = Chunks(steps.answering, steps.silent, steps.reach or math.inf)
        self._planner = Planner(Memory(self._blocks), chunks)
        self._live: list[SessionState] = []
        self._commands: list[Action] = []
        self._time = 0
        self.failed = 0

    def command(self, action: Action) -> None:
        """Runs a command between steps, as the engine does."""
        if self.busy:
            self._commands.append(action)
        else:
            action()

    def open(self, tokens: int) -> SessionState:
        """A session with so many tokens to prefill."""
        state = SessionState(KVCache(self._blocks), lambda event: None, [0] * tokens)
        self._live.append(state)
        self._touch(state)
        return state

    def append(self, state: SessionState, tokens: int) -> None:
        """More tokens to prefill."""
        state.tokens.extend([0] * tokens)
        state.asleep = False
        self._touch(state)

    def generate(self, state: SessionState, script: Script) -> None:
        """Starts an answer."""
        self.append(state, self._steps.head_tokens)
        # the planner asks only whether an answer is under way
        state.answer = cast(Answer, script)
        state.started = self._time

    def truncate(self, state: SessionState, length: int) -> None:
        """Ends an answer under way, and keeps the first tokens."""
        state.answer = None
        del state.tokens[length:]
        state.cache.truncate(length)
        self._touch(state)

    def close(self, state: SessionState) -> None:
        """Forgets the session."""
        state.answer = None
        if state in self._live:
            self._live.remove(state)
            state.cache.truncate(0)

    def _touch(self, state: SessionState) -> None:
        self._time += 1
        state.used = self._time
        self.clock.after(0.0, self._start)

    def _start(self) -> None:
        if self.busy:
            return
        self._time += 1
        batch = self._planner.plan(self._live, self._fail)
        if batch:
            asking = [state for state, count in batch if state.answer is not None and state.pending == count]
            self.compute(self._cost(batch, len(asking)), lambda: self._end(batch, asking, self._time))

    def _cost(self, batch: Batch, sent: int) -> float:
        answers = [state for state, count in batch if count == 1 and state.answer is not None]
        prompts = [(state, count) for state, count in batch if not (count == 1 and state.answer is not None)]
        seconds = sent * self._steps.token_s
        if answers:
            past = sum(state.cache.length for state in answers) / len(answers)
            seconds += self._steps.decode.at(len(answers), past, "lm.decode", self._outside)
        if prompts:
            tokens = sum(count for _, count in prompts)
            past = max(state.cache.length for state, _ in prompts)
            prefill = self._steps.prefill.at(tokens, past, "lm.prefill", self._outside)
            # one pass over the weights serves both
            seconds += prefill - min(prefill, self._steps.decode.seconds[0][0]) * bool(answers)
        return seconds

    def _end(self, batch: Batch, asking: list[SessionState], time: int) -> None:
        for state, count in batch:
            if state in self._live and len(state.tokens) - state.cache.length >= count:
                state.cache.advance(count)
        self._planner.served(self._live, batch, time)
        for state in asking:
            script = cast("Script | None", state.answer)
            if script is None or state.pending:
                continue  # cancelled, or added to, meanwhile
            found = next(script.steps, None)
            if found is None:
                state.answer = None
                script.on_end()
            else:
                count, is_speech = found
                state.tokens.extend([0] * count)
                script.on_tokens(count, is_speech)
        commands, self._commands = self._commands, []
        for command in commands:
            command()
        self._start()

    def _fail(self, state: SessionState, error: Exception) -> None:
        self.failed += 1
        self.close(state)


@dataclass(eq=False)
class Synthesis:
    """An utterance at the decoder.

    Attributes:
        on_audio: takes seconds of audio as they are made.
    """

    on_audio: Callable[[float], None]
    schedule: BlockSchedule = field(default_factory=BlockSchedule)
    given_s: float = 0.0
    playing_since: float | None = None
    stopped: bool = False
    working: bool = False


@dataclass(eq=False)
class _Job:
    synthesis: Synthesis
    block: Block
    due: Due
    steps_done: int = 0


class Decoder(_Engine):
    """See `services.decoder.worker`: before each step it is decided anew whose blocks take part."""

    def __init__(self, clock: Clock, processors: Processors, steps: DecoderSteps, outside: Outside) -> None:
        super().__init__(clock, processors)
        self._steps = steps
        self._outside = outside
        self._waiting: list[_Job] = []
        self._count = 0

    def push(self, synthesis: Synthesis, tokens: int) -> None:
        """More speech tokens."""
        synthesis.schedule.push(tokens)
        self._submit(synthesis)

    def finish(self, synthesis: Synthesis) -> None:
        """No more of them."""
        synthesis.schedule.finish()
        self._submit(synthesis)

    def _frames(self, tokens: int) -> int:
        return int(tokens * self._steps.frames_per_token)

    def _submit(self, synthesis: Synthesis) -> None:
        if synthesis.working or synthesis.stopped:
            return
        block = synthesis.schedule.next()
        if block is None:
            return
        synthesis.working = True
        history = history_start(block.start, self._steps.encoder_block)
        frames = self._steps.voice_frames + self._frames(block.stop) - self._frames(history)
        runs_out = (synthesis.playing_since or 0.0) + synthesis.given_s
        due = Due(frames if block.stop > block.start else 0, block.start == 0, runs_out, self._count)
        self._count += 1
        self._waiting.append(_Job(synthesis, block, due))
        self._start()

    def _start(self) -> None:
        if self.busy:
            return
        self._waiting = [job for job in self._waiting if not job.synthesis.stopped]
        chosen = choose([job.due for job in self._waiting], self._steps.frame_budget)
        group = [self._waiting[index] for index in chosen]
        if group:
            self.compute(self._cost(group), lambda: self._end(group))

    def _ends(self, job: _Job) -> bool:
        return job.steps_done + 1 >= self._steps.steps or not job.due.frames

    def _cost(self, group: list[_Job]) -> float:
        steps, seconds = self._steps, 0.0
        for table, name, part in (
            (steps.first, "decoder.first", [job for job in group if not job.steps_done and job.due.frames]),
            (steps.further, "decoder.further", [job for job in group if job.steps_done]),
        ):
            if part:
                seconds += table.at(len(part), max(job.due.frames for job in part), name, self._outside)
        made = [max(1, self._frames(job.block.stop - job.block.start)) for job in group if self._ends(job)]
        if made and steps.render_batched:
            seconds += steps.render.at(len(made), max(made), "decoder.render", self._outside)
        elif made:
            seconds += sum(steps.render.at(1, frames, "decoder.render", self._outside) for frames in made)
        return seconds

    def _end(self, group: list[_Job]) -> None:
        ready = [job for job in group if self._ends(job)]
        for job in group:
            job.steps_done += 1
        self._waiting = [job for job in self._waiting if job not in ready]
        for job in ready:
            synthesis = job.synthesis
            synthesis.working = False
            if synthesis.stopped:
                continue
            seconds = (job.block.stop - job.block.start) / self._steps.token_rate
            synthesis.given_s += seconds
            if synthesis.playing_since is None:
                synthesis.playing_since = self.clock.now
            synthesis.on_audio(seconds)
            self._submit(synthesis)
        self._start()
