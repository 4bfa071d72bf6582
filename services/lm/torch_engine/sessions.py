"""The sessions of the torch engine, and who of them gives up memory when others need it. Pure bookkeeping."""

from collections.abc import Collection
from dataclasses import dataclass, field

from services.common.errors import AtCapacityError
from services.lm.answer import Answer
from services.lm.engine import Emit, Finished, Reason
from services.lm.torch_engine.blocks import BLOCK_TOKENS, Blocks, KVCache


@dataclass(eq=False)
class SessionState:
    """One session. What `cache` does not hold of `tokens` is computed in the next steps, unless it is asleep.

    Attributes:
        asleep: gave up memory; what is missing is computed when the session is next added to.
        used: when it was last commanded or served, as a count that grows.
        started: the same for the start of its answer.
        due: since when work waits that no step has taken yet, seconds on the engine's clock; None: there is none.
    """

    cache: KVCache
    emit: Emit
    tokens: list[int] = field(default_factory=list)
    answer: Answer | None = None
    asleep: bool = False
    used: int = 0
    started: int = 0
    due: float | None = None

    @property
    def pending(self) -> int:
        """Tokens to compute."""
        return 0 if self.asleep else len(self.tokens) - self.cache.length

    @property
    def idle(self) -> bool:
        """Whether nothing is to be done for it now."""
        return self.answer is None and not self.pending

    def finish(self, reason: Reason) -> None:
        """Ends the answer under way."""
        self.answer = None
        self.emit(Finished(reason, len(self.tokens)))


class Memory:
    """Shares out the pool's blocks among the sessions.

    Idle sessions give up theirs first, the one longest unused before the others, from its end and no more than is
    needed. For an answer, prompts that nobody waits for yet give way too. When only answers are left, the one that
    started last has to go.
    """

    def __init__(self, pool: Blocks) -> None:
        self._pool = pool

    def reserve(
        self, state: SessionState, count: int, live: Collection[SessionState], served: Collection[SessionState]
    ) -> bool:
        """Takes the blocks for `count` more tokens of `state`. Returns False when they cannot be had.

        Args:
            live: all sessions.
            served: those whose blocks this step needs.
        """
        missing = state.cache.missing(count)
        if missing > self._pool.free:
            for other in self._givers(state, live, served):
                other.asleep = other.idle
                kept = len(other.cache.blocks) - (missing - self._pool.free)
                other.cache.truncate(max(kept, 0) * BLOCK_TOKENS)
                if missing <= self._pool.free:
                    break
            else:
                return False
        state.cache.reserve(count)
        return True

    def exhausted(self, answers: int) -> AtCapacityError:
        """What a session is told that has to go."""
        return AtCapacityError(
            f"the memory for keys and values, {self._pool.tokens} tokens, is used up by {answers} answers; "
            "try again later, or open the session on another replica"
        )

    @staticmethod
    def _givers(
        state: SessionState, live: Collection[SessionState], served: Collection[SessionState]
    ) -> list[SessionState]:
        holders = [s for s in live if s is not state and s not in served and s.answer is None and s.cache.blocks]
        givers = [s for s in holders if s.idle or state.answer is not None]
        return sorted(givers, key=lambda s: (not s.idle, s.used))
