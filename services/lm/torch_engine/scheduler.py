"""Runs each step that `Planner` decides, and says what its outcome means for each session. No threads in here."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch

from services.common.errors import ContextFullError, InvalidInputError, WrongOrderError
from services.lm.answer import Allowed, Answer
from services.lm.engine import Added, Emit, Failed, GenerationSettings, Kind, Reason
from services.lm.prompt import ChatTemplate
from services.lm.sampling import Draw, choose, uniform
from services.lm.torch_engine.planning import Chunks, Planner
from services.lm.torch_engine.runner import Runner, Span
from services.lm.torch_engine.sessions import Memory, SessionState

_ALLOWED = tuple(Allowed)


@dataclass(frozen=True)
class Step:
    """What a step did.

    Attributes:
        served: the sessions whose tokens it computed.
    """

    served: tuple[SessionState, ...] = ()


class Scheduler:
    """Continuous batching: each step advances every answer by one token, and prompts by a chunk.

    Args:
        end_tokens: ids that end an answer, beside the template's own.
    """

    def __init__(
        self,
        runner: Runner,
        template: ChatTemplate,
        context_length: int,
        end_tokens: Collection[int],
        chunks: Chunks,
    ) -> None:
        self.context_length = context_length
        self._runner = runner
        self._planner = Planner(Memory(runner.pool), chunks)
        self._template = template
        self._end = frozenset(end_tokens) | {template.end}
        self._live: list[SessionState] = []
        self._bars: torch.Tensor | None = None
        self._time = 0
        self._stuck = False

    def open(self, tokens: Sequence[int], emit: Emit) -> SessionState:
        """Adds a session; see `Engine.open`."""
        size = self._template.vocabulary.size
        for token in tokens:
            if not 0 <= token < size:
                raise InvalidInputError(f"token {token} is not of the vocabulary; allowed are 0 to {size - 1}")
        state = SessionState(self._runner.cache(), emit)
        self._add(state, tokens)
        self._live.append(state)
        return state

    def append(self, state: SessionState, tokens: Sequence[int]) -> int:
        """See `Session.append`."""
        if state.answer is not None:
            raise WrongOrderError("append while an answer is being generated; cancel or truncate first")
        self._add(state, tokens)
        return len(state.tokens)

    def generate(self, state: SessionState, settings: GenerationSettings) -> None:
        """See `Session.generate`."""
        if state.answer is not None:
            raise WrongOrderError("generate while an answer is being generated; cancel or truncate first")
        resumed: list[int] = []
        if settings.resume:
            found = self._template.open_answer(state.tokens)
            if found is None:
                raise WrongOrderError("resume: the session does not end in an answer")
            resumed = found
            # The logits after the last token are wanted once more.
            state.cache.truncate(len(state.tokens) - 1)
        answer = Answer(self._template, settings, self._end, resumed)
        head = [] if settings.resume else self._template.assistant_head()
        self._add(state, head)
        if head:
            state.emit(Added(tuple(head), Kind.CONTROL, len(state.tokens)))
        state.answer = answer
        state.started = self._time

    def cancel(self, state: SessionState) -> None:
        """See `Session.cancel`."""
        if state.answer is not None:
            self._touch(state)
            state.finish(Reason.CANCELLED)

    def truncate(self, state: SessionState, length: int) -> int:
        """See `Session.truncate`."""
        if length > len(state.tokens):
            raise InvalidInputError(f"truncate to {length}: the session has {len(state.tokens)} tokens")
        self.cancel(state)
        self._touch(state)
        del state.tokens[length:]
        state.cache.truncate(length)
        return length

    def close(self, state: SessionState) -> None:
        """Forgets the session and frees its memory."""
        if state in self._live:
            self._live.remove(state)
            state.cache.truncate(0)
            self._stuck = False

    @property
    def kv_tokens(self) -> int:
        """Tokens whose keys and values fit into memory, over all sessions."""
        return self._runner.pool.tokens

    @property
    def sessions(self) -> int:
        """How many sessions are open."""
        return len(self._live)

    @property
    def has_work(self) -> bool:
        """Whether `step` has anything to do."""
        return not self._stuck and any(state.pending for state in self._live)

    @property
    def pending(self) -> int:
        """Sessions that have tokens to compute. From any thread."""
        return sum(bool(state.pending) for state in tuple(self._live))

    @property
    def kv_used(self) -> float:
        """Share of the memory for keys and values that is taken. From any thread."""
        return 1.0 - self._runner.pool.free / self._runner.pool.blocks

    def step(self) -> Step:
        """Runs the model once over what is pending, and continues every answer whose tokens are all computed."""
        self._time += 1
        batch = self._planner.plan(self._live, self._fail)
        if not batch:
            self._stuck = True
            return Step()
        asking = [state for state, count in batch if state.answer is not None and state.pending == count]
        spans = [
            Span(
                s.cache, s.tokens[s.cache.length : s.cache.length + count], s.answer is not None and s.pending == count
            )
            for s, count in batch
        ]
        try:
            logits = self._runner.forward(spans)
            self._continue(asking, logits)
        except Exception as error:
            for state, _ in batch:
                self._fail(state, error)
            raise
        self._planner.served(self._live, batch, self._time)
        return Step(tuple(state for state, _ in batch))

    def _touch(self, state: SessionState) -> None:
        self._time += 1
        state.used = self._time
        self._stuck = False

    def _add(self, state: SessionState, tokens: Sequence[int]) -> None:
        total = len(state.tokens) + len(tokens)
        if total > self.context_length:
            raise ContextFullError(f"{total} tokens do not fit; the context holds {self.context_length}")
        self._touch(state)
        state.asleep = False
        state.tokens.extend(tokens)

    def _fail(self, state: SessionState, error: Exception) -> None:
        self.close(state)
        state.emit(Failed(error))

    def _continue(self, states: Sequence[SessionState], logits: torch.Tensor) -> None:
        """Adds to each answer what comes next: text that is given, or the id that its row of logits yields."""
        forced: dict[SessionState, list[int]] = {}
        drawing: list[tuple[int, SessionState, Answer]] = []
        for row, state in enumerate(states):
            answer = state.answer
            assert answer is not None
            room = self.context_length - len(state.tokens)
            if room == 0:
                state.finish(Reason.CONTEXT_FULL)
            elif given := answer.forced()[:room]:
                forced[state] = given
            else:
                drawing.append((row, state, answer))
        for state, given in forced.items():
            self._extend(state, given)
        for (_, state, answer), token in zip(drawing, self._draw(drawing, logits), strict=True):
            if answer.ends_with(token):
                state.finish(Reason.END_OF_TURN)
            else:
                self._extend(state, [token])

    def _extend(self, state: SessionState, added: list[int]) -> None:
        answer = state.answer
        assert answer is not None
        state.tokens.extend(added)
        state.emit(Added(tuple(added), answer.kind(added[0]), len(state.tokens)))
        reason = answer.take(added)
        if reason is not None:
            state.finish(reason)

    def _draw(self, drawing: Sequence[tuple[int, SessionState, Answer]], logits: torch.Tensor) -> list[int]:
        if not drawing:
            return []
        if self._bars is None:
            self._bars = self._make_bars(logits.shape[-1]).to(logits.device)
        rows = [row for row, _, _ in drawing]
        kinds = [_ALLOWED.index(answer.allowed()) for _, _, answer in drawing]
        asked = logits if len(rows) == len(logits) else logits[rows]
        bars = self._bars[kinds[0]] if len(set(kinds)) == 1 else self._bars[kinds]
        draws = [
            Draw(answer.settings.temperature, answer.settings.top_p, uniform(answer.settings.seed, len(state.tokens)))
            for _, state, answer in drawing
        ]
        return choose(asked + bars, draws)

    def _make_bars(self, size: int) -> torch.Tensor:
        """For each of `_ALLOWED`, -inf at every id that may not be chosen, 0 at the others."""
        vocabulary = self._template.vocabulary
        bars = torch.full((len(_ALLOWED), size), -torch.inf)
        for row, allowed in zip(bars, _ALLOWED, strict=True):
            row[vocabulary.speech_offset : vocabulary.speech_offset + vocabulary.codebook_size] = 0
            if allowed is Allowed.ANSWER:
                row[list(self._template.text.ids)] = 0
            if allowed is not Allowed.SPEECH:
                row[sorted(self._end)] = 0
        return bars
