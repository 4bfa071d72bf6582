"""Decides who is served in each step, and with how many tokens. Pure: no model, no tensor, no clock.

The scheduler runs these decisions on the model; the capacity planner runs the same ones in virtual time.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from services.lm.torch_engine.sessions import Memory, SessionState

Batch = list[tuple[SessionState, int]]
Fail = Callable[[SessionState, Exception], None]


@dataclass(frozen=True)
class Chunks:
    """How much of the prompts one step computes, in tokens at the start of a session.

    Attributes:
        answering: while answers are under way, whose next tokens wait for the step.
        silent: while none is.
        reach: so far into a session a token costs twice what the first one does, because of what it attends to.
    """

    answering: int
    silent: int
    reach: float = math.inf

    def cost(self, past: int) -> float:
        """What a token after `past` others costs."""
        return 1 + past / self.reach


class Planner:
    """Continuous batching: each step advances every answer by one token, and prompts by a chunk.

    Args:
        memory: shares out the blocks for keys and values.
        chunks: how much of the prompts one step computes.
    """

    def __init__(self, memory: Memory, chunks: Chunks) -> None:
        self._memory = memory
        self._chunks = chunks

    def plan(self, live: list[SessionState], fail: Fail) -> Batch:
        """Who is served in the next step, and with how many tokens; the blocks for them are reserved.

        Answers come before prompts that nobody waits for, and the shorter before the longer ones.

        Args:
            live: all sessions.
            fail: ends a session for which there is no memory: takes it out of `live` and frees its blocks.
        """
        pending = [state for state in live if state.pending]
        pending.sort(key=lambda state: (state.answer is None, state.pending if state.answer else 0))
        decoding = any(state.answer and state.pending == 1 for state in pending)
        room: float = self._chunks.answering if decoding else self._chunks.silent
        batch: dict[SessionState, int] = {}
        for state in pending:
            decodes = state.answer is not None and state.pending == 1
            cost = self._chunks.cost(state.cache.length)
            count = 1 if decodes else min(state.pending, int(room / cost))
            if not count or state not in live:
                continue
            if self._reserve(state, count, live, batch, fail):
                batch[state] = count
                room -= 0 if decodes else count * cost
        return list(batch.items())

    def served(self, live: list[SessionState], batch: Batch, time: int) -> None:
        """Who was served goes to the end of `live`, so that prompts share the steps fairly."""
        for state, _ in batch:
            state.used = time
        live.sort(key=lambda state: state.used == time)

    def _reserve(
        self, state: SessionState, count: int, live: list[SessionState], batch: dict[SessionState, int], fail: Fail
    ) -> bool:
        """Finds memory for `count` tokens; for an answer, other answers that started later have to go."""
        while not self._memory.reserve(state, count, live, batch):
            if state.answer is None:
                return False
            answers = [other for other in live if other.answer is not None]
            last = max(answers, key=lambda other: other.started)
            batch.pop(last, None)
            fail(last, self._memory.exhausted(len(answers)))
            if last is state:
                return False
        return True
