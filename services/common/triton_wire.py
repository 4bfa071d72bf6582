"""What services and the models of the Triton repository say to each other: names, texts and failures as tensors.

A session is one gRPC stream with one Triton sequence id. Its first request, `open`, stays unanswered to the end for as
long as the session lives: a client that vanishes is seen by that request's cancellation. Every further request is one
command; its outputs come back as decoupled responses, the last of which carries `DONE`. A failure is an output too,
because Triton's streams carry neither the request nor a status code with an error.
"""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from services.common import errors
from services.common.errors import ServiceError

Array = npt.NDArray[Any]
Tensors = Mapping[str, Array]
Parameters = Mapping[str, str | int | float | bool]

COMMAND = "command"  # the parameter that names a request's command
OPEN, CLOSE, KEEP, INFO = "open", "close", "keep", "info"

REVISION = "revision"  # the parameter of `open` that names the weights the client was made for

DONE = "DONE"  # the last response to a request
ERROR = "ERROR"  # `CODE: message`, the code a gRPC status
LEASE_MS = "LEASE_MS"  # a session that sends nothing for so long is ended
JSON = "JSON"  # the answer to `info`

_KINDS: list[type[ServiceError]] = [ServiceError, *ServiceError.__subclasses__()]
_TYPES = {kind.code.name: kind for kind in _KINDS}
_TYPES[errors.UnavailableError.code.name] = errors.UnavailableError


def text(value: str) -> Array:
    """UTF-8 bytes, uint8 (bytes,): Triton's own string tensors cost a Python object for each element."""
    return raw(value.encode())


def raw(value: bytes) -> Array:
    """Bytes as uint8 (bytes,)."""
    return np.frombuffer(value, np.uint8).copy()


def number(value: int) -> Array:
    """int32 (1,)."""
    return np.array([value], np.int32)


def numbers(values: Any) -> Array:
    """int32 (values,)."""
    return np.fromiter(values, np.int32)


def read_text(array: Array) -> str:
    """The text of `text`."""
    return array.tobytes().decode()


def read_json(outputs: Tensors) -> dict[str, Any]:
    """The object in an answer's `JSON`."""
    value = json.loads(read_text(outputs[JSON]))
    assert isinstance(value, dict)
    return value


def other_weights(expected: str, found: str) -> str:
    """What to say to a service that was started before the weights at Triton changed."""
    return f"Triton serves the weights {found} now, this service was started with {expected}: restart it"


def error_text(error: Exception) -> str:
    """How a failure crosses the wire. What was not foreseen keeps its details to itself, as at a service's own port."""
    if isinstance(error, ServiceError):
        return f"{error.code.name}: {error}"
    return "INTERNAL: unexpected failure; see Triton's log"


def error_of(message: str) -> ServiceError:
    """The error that `error_text` described."""
    code, _, detail = message.partition(": ")
    return _TYPES.get(code, ServiceError)(detail if code in _TYPES else message)
