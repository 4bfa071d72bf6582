"""Triton's side of the python backend, as far as a host uses it."""

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np

FINAL = 1


@dataclass
class Sender:
    """A request's response sender. Triton crashes when one is used after its last response: here it is `misused`."""

    responses: list[dict[str, Any]] = field(default_factory=list)
    cancelled: bool = False
    final: bool = False
    misused: bool = False

    def send(self, response: dict[str, Any], flags: int) -> None:
        self.misused |= self.final
        self.responses.append(response)
        self.final = flags == FINAL

    def is_cancelled(self) -> bool:
        self.misused |= self.final
        return self.cancelled

    @property
    def errors(self) -> list[str]:
        return [bytes(response["ERROR"]).decode() for response in self.responses if "ERROR" in response]


def _tensor(name: str, array: Any) -> tuple[str, Any]:
    assert isinstance(array, np.ndarray)
    return name, array


BACKEND = SimpleNamespace(
    Tensor=SimpleNamespace(from_dlpack=_tensor),
    InferenceResponse=dict,
    TRITONSERVER_RESPONSE_COMPLETE_FINAL=FINAL,
)
