"""What the service asks of an engine: sessions of token ids, whichever code runs the model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol


class Kind(Enum):
    """What generated ids are."""

    TEXT = "text"
    SPEECH = "speech"
    CONTROL = "control"


class Reason(Enum):
    """Why a generation ended."""

    END_OF_TURN = "end of turn"
    MAX_TOKENS = "max tokens"
    CANCELLED = "cancelled"
    CONTEXT_FULL = "context full"


@dataclass(frozen=True)
class GenerationSettings:
    """How to generate one answer.

    Attributes:
        temperature: 0 is greedy.
        top_p: share of the probability that is sampled from, 0 to 1.
        seed: same seed, same ids before, same answer.
        max_new_tokens: of the answer, its head not counted.
        say: the answer's text where it is given; empty where the model writes it.
        resume: go on with the answer that the session ends in.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    max_new_tokens: int = 2000
    say: str = ""
    resume: bool = False


@dataclass(frozen=True)
class Added:
    """Generation added these ids, all of one kind, to the session; `length` is the session's then."""

    tokens: tuple[int, ...]
    kind: Kind
    length: int


@dataclass(frozen=True)
class Finished:
    """Generation ended; no more events until the next one."""

    reason: Reason
    length: int


@dataclass(frozen=True)
class Failed:
    """The engine cannot go on with this session."""

    error: Exception


Event = Added | Finished | Failed
Emit = Callable[[Event], None]


class Session(Protocol):
    """One conversation's tokens, with their keys and values kept. Commands are executed in order, between steps."""

    @property
    def tokens(self) -> Sequence[int]:
        """All ids of the session; stable while nothing is being generated."""

    async def append(self, tokens: Sequence[int]) -> int:
        """Adds ids and starts to prefill them. Returns the session's length.

        Raises:
            WrongOrderError: a generation is under way.
            ContextFullError: they do not fit; nothing was added.
        """

    async def generate(self, settings: GenerationSettings) -> None:
        """Starts an answer; its events go to the session's `emit`, the last is `Finished`.

        Raises:
            WrongOrderError: a generation is under way, or there is no answer to resume.
            ContextFullError: the answer's head does not fit.
        """

    async def truncate(self, length: int) -> int:
        """Ends a generation, then keeps the first `length` ids. Returns the session's length.

        Raises:
            InvalidInputError: the session is shorter than that.
        """

    async def cancel(self) -> None:
        """Ends a generation under way; its `Finished` event follows."""

    def close(self) -> None:
        """Ends the session and frees its memory; no event follows."""


class Engine(Protocol):
    """A model that serves many sessions."""

    @property
    def context_length(self) -> int:
        """Tokens of the longest session."""

    async def open(self, tokens: Sequence[int], emit: Emit) -> Session:
        """Starts a session from ids and prefills them. `emit` is called on the event loop that opened it.

        Raises:
            InvalidInputError: an id is not of the vocabulary.
            ContextFullError: too many ids.
        """

    def stop(self) -> None:
        """Ends all sessions and frees the model's thread."""
