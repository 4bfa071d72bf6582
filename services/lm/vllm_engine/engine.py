"""The engine over vLLM: its scheduler batches the sessions' requests, in processes of its own."""

from collections.abc import Sequence

from services.common.errors import DrainingError, InvalidInputError
from services.lm.engine import Emit
from services.lm.vllm_engine.session import Core, VllmSession

# vLLM's own processes wait some seconds for one another before they use force.
_GRACE_S = 15.0


class VllmEngine:
    """Implements `services.lm.engine.Engine`. Used on one event loop."""

    def __init__(self, core: Core) -> None:
        self.core = core

    @property
    def context_length(self) -> int:
        """Tokens of the longest session."""
        return self.core.context_length

    @property
    def kv_tokens(self) -> int:
        """Tokens whose keys and values fit into the memory for them."""
        return self.core.kv_tokens

    @property
    def sessions(self) -> int:
        """How many sessions are open."""
        return len(self.core.sessions)

    @property
    def requests(self) -> int:
        """How many requests vLLM has, those that wait for more input among them."""
        return int(self.core.llm.get_num_unfinished_requests())

    @property
    def pending(self) -> int:
        """Answers under way. From any thread."""
        return sum(session.answering for session in tuple(self.core.sessions))

    async def open(self, tokens: Sequence[int], emit: Emit) -> VllmSession:
        """See `Engine.open`.

        Raises:
            DrainingError: vLLM's engine has died.
        """
        if self.core.llm.errored:
            self.core.died()
            raise DrainingError("the language model has stopped; use another replica")
        size = self.core.template.vocabulary.size
        for token in tokens:
            if token >= size:
                raise InvalidInputError(f"token {token} is not of the vocabulary; allowed are 0 to {size - 1}")
        return VllmSession(self.core, tokens, emit)

    def stop(self) -> None:
        """Ends vLLM's processes."""
        for session in list(self.core.sessions):
            session.close()
        self.core.llm.shutdown(timeout=_GRACE_S)
