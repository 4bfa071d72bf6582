"""One session over vLLM: its tokens are kept here, their keys and values in vLLM for as long as there is room."""

import asyncio
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from vllm.v1.engine.async_llm import AsyncLLM

from services.common.errors import ContextFullError, InvalidInputError, WrongOrderError
from services.lm.answer import Answer
from services.lm.engine import Added, Emit, Failed, Finished, GenerationSettings, Kind, Reason
from services.lm.prompt import ChatTemplate
from services.lm.vllm_engine.parking import Parking
from services.lm.vllm_engine.sampler import Choice
from services.lm.vllm_engine.stream import Stream


@dataclass(frozen=True)
class Core:
    """What all sessions share.

    Attributes:
        end: ids that end an answer.
        context_length: tokens of the longest session.
        kv_tokens: tokens whose keys and values fit into the memory for them.
        died: called when vLLM's processes are found dead, perhaps more than once.
    """

    llm: AsyncLLM
    template: ChatTemplate
    end: frozenset[int]
    context_length: int
    kv_tokens: int
    parking: Parking
    died: Callable[[], None]
    sessions: set["VllmSession"] = field(default_factory=set)
    _numbers: "itertools.count[int]" = field(default_factory=itertools.count)

    def stream(self) -> Stream:
        """A new request."""
        return Stream(self.llm, str(next(self._numbers)), self.died)


class VllmSession:
    """Implements `services.lm.engine.Session`. Used on one event loop."""

    def __init__(self, core: Core, tokens: Sequence[int], emit: Emit) -> None:
        self._core = core
        self._emit = emit
        self._tokens: list[int] = []
        self._stream: Stream | None = None
        self._answering: asyncio.Task[None] | None = None
        self._add(tokens)
        core.sessions.add(self)
        self._prefill()

    @property
    def tokens(self) -> Sequence[int]:
        """All ids of the session; stable while nothing is being generated."""
        return self._tokens

    @property
    def answering(self) -> bool:
        """An answer is under way."""
        return self._answering is not None

    async def append(self, tokens: Sequence[int]) -> int:
        """See `Session.append`."""
        self._require_idle("append")
        self._add(tokens)
        self._prefill()
        return len(self._tokens)

    async def generate(self, settings: GenerationSettings) -> None:
        """See `Session.generate`."""
        self._require_idle("generate")
        template = self._core.template
        resumed: list[int] = []
        if settings.resume:
            found = template.open_answer(self._tokens)
            if found is None:
                raise WrongOrderError("resume: the session does not end in an answer")
            resumed = found
        answer = Answer(template, settings, self._core.end, resumed)
        if not settings.resume:
            head = template.assistant_head()
            self._add(head)
            self._emit(Added(tuple(head), Kind.CONTROL, len(self._tokens)))
        self._answering = asyncio.create_task(self._answer(answer), name="lm-answer")

    async def truncate(self, length: int) -> int:
        """See `Session.truncate`."""
        if length > len(self._tokens):
            raise InvalidInputError(f"truncate to {length}: the session has {len(self._tokens)} tokens")
        await self.cancel()
        del self._tokens[length:]
        if self._stream is not None and self._stream.sent > length:
            self._leave()
        return length

    async def cancel(self) -> None:
        """See `Session.cancel`."""
        if self._answering is not None:
            self._answering.cancel()
            self._leave()
            self._finish(Reason.CANCELLED)

    def close(self) -> None:
        """See `Session.close`."""
        if self._answering is not None:
            self._answering.cancel()
            self._answering = None
        self._leave()
        self._core.sessions.discard(self)

    def _require_idle(self, command: str) -> None:
        if self._answering is not None:
            raise WrongOrderError(f"{command} while an answer is being generated; cancel or truncate first")

    def _add(self, tokens: Sequence[int]) -> None:
        total = len(self._tokens) + len(tokens)
        if total > self._core.context_length:
            raise ContextFullError(f"{total} tokens do not fit; the context holds {self._core.context_length}")
        self._tokens.extend(tokens)

    def _prefill(self) -> None:
        stream = self._stream = self._stream or self._core.stream()
        if unsent := self._tokens[stream.sent :]:
            stream.prefill(unsent)
        self._park()

    def _park(self) -> None:
        self._core.parking.put(self, len(self._tokens), self._leave)

    def _leave(self) -> None:
        """Gives up the request; the next one starts from the tokens, and from what vLLM's prefix cache still has."""
        self._core.parking.remove(self)
        if self._stream is not None:
            self._stream.abort()
            self._stream = None

    async def _answer(self, answer: Answer) -> None:
        try:
            reason = await self._course(answer)
        except Exception as error:  # goes to the session's owner
            self._answering = None
            self._leave()
            self._emit(Failed(error))
        else:
            self._park()
            self._finish(reason)

    async def _course(self, answer: Answer) -> Reason:
        settings = answer.settings
        while True:
            room = self._core.context_length - len(self._tokens)
            if room == 0:
                return Reason.CONTEXT_FULL
            if forced := answer.forced()[:room]:
                if (reason := self._take(answer, forced)) is not None:
                    return reason
                continue
            choice = Choice(answer.allowed().name, settings.temperature, settings.top_p, settings.seed)
            stream, unsent = self._to_generate()
            async for token in stream.generate(unsent, choice, self._core.end, min(answer.steps(), room)):
                if answer.ends_with(token):
                    return Reason.END_OF_TURN
                if (reason := self._take(answer, [token])) is not None:
                    return reason

    def _to_generate(self) -> tuple[Stream, Sequence[int]]:
        """The request to generate in, and what has still to be sent: the logits after the last token are wanted."""
        if self._stream is not None and self._stream.sent == len(self._tokens):
            self._leave()
        if self._stream is not None:
            self._park()
            self._core.parking.need(self)
        stream = self._stream = self._stream or self._core.stream()
        return stream, self._tokens[stream.sent :]

    def _take(self, answer: Answer, tokens: Sequence[int]) -> Reason | None:
        self._tokens.extend(tokens)
        self._emit(Added(tuple(tokens), answer.kind(tokens[0]), len(self._tokens)))
        return answer.take(tokens)

    def _finish(self, reason: Reason) -> None:
        self._answering = None
        self._emit(Finished(reason, len(self._tokens)))
