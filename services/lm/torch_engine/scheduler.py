"""Decides what each step computes, and what the outcome means for each session. No threads and no waiting in here."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import torch

from services.common.errors import ContextFullError, InvalidInputError, WrongOrderError
from services.lm.answer import Allowed, Answer
from services.lm.engine import Added, Emit, Failed, Finished, GenerationSettings, Kind, Reason
from services.lm.prompt import ChatTemplate
from services.lm.sampling import choose, uniform
from services.lm.torch_engine.cache import KVCache
from services.lm.torch_engine.runner import Runner, Span

# Tokens of one step: bounds how long a long prompt can hold up the answers of others.
STEP_TOKENS = 256


@dataclass(eq=False)
class SessionState:
    """One session. What `cache` does not hold of `tokens` yet is computed in the next steps."""

    cache: KVCache
    emit: Emit
    tokens: list[int] = field(default_factory=list)
    answer: Answer | None = None

    @property
    def pending(self) -> int:
        """Tokens that are not in the cache yet."""
        return len(self.tokens) - self.cache.length

    def finish(self, reason: Reason) -> None:
        """Ends the answer under way."""
        self.answer = None
        self.emit(Finished(reason, len(self.tokens)))


class Scheduler:
    """Continuous batching: each step advances every answer by one token and spends what is left on prompts.

    Args:
        end_tokens: ids that end an answer, beside the template's own.
    """

    def __init__(
        self,
        runner: Runner,
        template: ChatTemplate,
        context_length: int,
        end_tokens: Collection[int] = (),
        step_tokens: int = STEP_TOKENS,
    ) -> None:
        self.context_length = context_length
        self._runner = runner
        self._template = template
        self._end = frozenset(end_tokens) | {template.end}
        self._step_tokens = step_tokens
        self._live: list[SessionState] = []
        self._barred: dict[Allowed, torch.Tensor] = {}

    def open(self, tokens: Sequence[int], emit: Emit) -> SessionState:
        """Adds a session; see `Engine.open`."""
        size = self._template.vocabulary.size
        for token in tokens:
            if token >= size:
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
        if not settings.resume:
            head = self._template.assistant_head()
            self._add(state, head)
            state.emit(Added(tuple(head), Kind.CONTROL, len(state.tokens)))
        state.answer = answer

    def cancel(self, state: SessionState) -> None:
        """See `Session.cancel`."""
        if state.answer is not None:
            state.finish(Reason.CANCELLED)

    def truncate(self, state: SessionState, length: int) -> int:
        """See `Session.truncate`."""
        if length > len(state.tokens):
            raise InvalidInputError(f"truncate to {length}: the session has {len(state.tokens)} tokens")
        self.cancel(state)
        del state.tokens[length:]
        state.cache.truncate(length)
        return length

    def close(self, state: SessionState) -> None:
        """Forgets the session."""
        if state in self._live:
            self._live.remove(state)

    @property
    def sessions(self) -> int:
        """How many sessions are open."""
        return len(self._live)

    @property
    def has_work(self) -> bool:
        """Whether `step` has anything to do."""
        return any(state.pending for state in self._live)

    def step(self) -> None:
        """Runs the model once over what is pending, and continues every answer whose tokens are all computed."""
        batch = self._batch()
        if not batch:
            return
        spans = [Span(c.cache, c.tokens[c.cache.length : c.cache.length + count]) for c, count in batch]
        try:
            logits = self._runner.forward(spans)
            for (state, _), row in zip(batch, logits, strict=True):
                if state.answer is not None and not state.pending:
                    self._continue(state, state.answer, row)
        except Exception as error:
            for state, _ in batch:
                self.close(state)
                state.emit(Failed(error))
            raise
        # Who was served goes to the end, so that prompts share the steps fairly.
        served = {id(state) for state, _ in batch}
        self._live.sort(key=lambda state: id(state) in served)

    def _add(self, state: SessionState, tokens: Sequence[int]) -> None:
        total = len(state.tokens) + len(tokens)
        if total > self.context_length:
            raise ContextFullError(f"{total} tokens do not fit; the context holds {self.context_length}")
        state.tokens.extend(tokens)

    def _batch(self) -> list[tuple[SessionState, int]]:
        pending = [state for state in self._live if state.pending]
        pending.sort(key=lambda state: state.pending > 1)
        room = self._step_tokens
        batch = []
        for state in pending:
            count = min(state.pending, room)
            if count:
                batch.append((state, count))
                room -= count
        return batch

    def _continue(self, state: SessionState, answer: Answer, logits: torch.Tensor) -> None:
        room = self.context_length - len(state.tokens)
        if room == 0:
            state.finish(Reason.CONTEXT_FULL)
            return
        added = answer.forced()[:room]
        if not added:
            settings, position = answer.settings, len(state.tokens)
            row = logits.masked_fill(self._bar(answer.allowed(), logits), -torch.inf)
            token = choose(row, settings.temperature, settings.top_p, uniform(settings.seed, position))
            if answer.ends_with(token):
                state.finish(Reason.END_OF_TURN)
                return
            added = [token]
        state.tokens.extend(added)
        state.emit(Added(tuple(added), answer.kind(added[0]), len(state.tokens)))
        reason = answer.take(added)
        if reason is not None:
            state.finish(reason)

    def _bar(self, allowed: Allowed, logits: torch.Tensor) -> torch.Tensor:
        """True for every id that may not be chosen."""
        if allowed not in self._barred:
            vocabulary = self._template.vocabulary
            barred = torch.ones_like(logits, dtype=torch.bool)
            barred[vocabulary.speech_offset : vocabulary.speech_offset + vocabulary.codebook_size] = False
            if allowed is Allowed.ANSWER:
                barred[list(self._template.text.ids)] = False
            if allowed is not Allowed.SPEECH:
                barred[sorted(self._end)] = False
            self._barred[allowed] = barred
        return self._barred[allowed]
