"""What a model service tells of itself and of its engine."""

from collections.abc import Callable
from typing import Protocol

from services.common.telemetry import catalogue
from services.common.telemetry.metrics import gauge, histogram

_QUEUE, _BATCH, _STEP = (
    histogram(metric) for metric in (catalogue.MODEL_QUEUE, catalogue.MODEL_BATCH, catalogue.MODEL_STEP)
)


class Slots(Protocol):
    """See `services.common.grpc_server.Slots`."""

    capacity: int
    active: int
    draining: bool


def observe(service: str, slots: Slots, pending: Callable[[], int] | None = None) -> None:
    """Has the state of a service exported.

    Args:
        pending: pieces of work that wait for the model or are in it; None where the model is elsewhere.
    """
    labels = {"service": service}
    gauge(catalogue.MODEL_STREAMS, lambda: [(slots.active, labels)])
    gauge(catalogue.MODEL_CAPACITY, lambda: [(slots.capacity, labels)])
    gauge(catalogue.MODEL_DRAINING, lambda: [(int(slots.draining), labels)])
    if pending is not None:
        gauge(catalogue.MODEL_PENDING, lambda: [(pending(), labels)])


class EngineMeter:
    """Takes an engine's times. From any one thread.

    Attributes:
        waits, wait_seconds: pieces of work that the model took, and how long they had waited.
        steps, step_seconds: of the model.
        served: streams that they computed.
    """

    def __init__(self, service: str) -> None:
        self._labels = {"service": service}
        self.waits = self.steps = self.served = 0
        self.wait_seconds = self.step_seconds = 0.0

    def waited(self, seconds: float) -> None:
        """A piece of work was due for so long when the model took it."""
        self.waits += 1
        self.wait_seconds += seconds
        _QUEUE.record(seconds, self._labels)

    def stepped(self, streams: int, seconds: float) -> None:
        """A step of the model computed for so many streams, and took so long."""
        self.steps += 1
        self.served += streams
        self.step_seconds += seconds
        _BATCH.record(streams, self._labels)
        _STEP.record(seconds, self._labels)
