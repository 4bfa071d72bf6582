"""How the model services fail, in plain words, and how long they may be silent."""

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import TypeVar

import grpc

T = TypeVar("T")

# The same request fails in the same way anywhere.
_FINAL = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.PERMISSION_DENIED,
    }
)


class ModelError(Exception):
    """A model service failed, refused or kept silent.

    Attributes:
        stage: `tokenizer`, `lm` or `decoder`.
        code: gRPC status; DEADLINE_EXCEEDED for silence.
    """

    def __init__(self, stage: str, code: grpc.StatusCode, detail: str) -> None:
        super().__init__(f"{stage}: {code.name}: {detail}")
        self.stage = stage
        self.code = code

    @classmethod
    def of(cls, stage: str, error: grpc.aio.AioRpcError) -> "ModelError":
        """From what grpc raises."""
        return cls(stage, error.code(), error.details() or "")

    @property
    def elsewhere(self) -> bool:
        """Another replica, or this one later, may do what this one did not."""
        return self.code not in _FINAL


class NoPlaceError(ModelError):
    """A call has no place on a stage.

    Attributes:
        failures: each stage that has no room (RESOURCE_EXHAUSTED), or no replica that serves (UNAVAILABLE).
    """

    def __init__(self, failures: dict[str, ModelError]) -> None:
        self.failures = failures
        first = next(iter(failures.values()))
        Exception.__init__(self, "; ".join(str(failure) for failure in failures.values()))
        self.stage, self.code = first.stage, first.code


@dataclass(frozen=True)
class Deadlines:
    """How long a service may be silent although something is due of it, seconds.

    Attributes:
        silence_s: then a stream is given up.
        late_s: then its replica is left for another, where there is another; at least, for the time grows with silences
            that turn out to be none.
    """

    silence_s: float = 8.0
    late_s: float = 1.0


async def within(seconds: float, stage: str, waiting_for: str, what: Awaitable[T]) -> T:
    """Awaits with a deadline.

    Raises:
        ModelError: DEADLINE_EXCEEDED, or what the service failed with.
    """
    try:
        async with asyncio.timeout(seconds):
            return await what
    except TimeoutError as error:
        detail = f"no {waiting_for} within {seconds:.3g} s"
        raise ModelError(stage, grpc.StatusCode.DEADLINE_EXCEEDED, detail) from error
    except grpc.aio.AioRpcError as error:
        raise ModelError.of(stage, error) from error
