"""What a model's engine tells of itself, among Triton's own metrics.

Triton's own queue metrics stay at zero for our models: they take each request at once, and it waits inside the engine.
Triton 2.51 has no histograms for models: of those there are sum and count.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from services.common.telemetry import catalogue
from services.common.telemetry.catalogue import Metric
from services.common.telemetry.model_service import EngineMeter


@dataclass(frozen=True)
class Watched:
    """An engine. All are asked from a thread that is not the engine's.

    Attributes:
        service: `tokenizer`, `lm` or `decoder`.
        pending: pieces of work that wait for the model or are in it.
        meter: its times, where it takes them.
        kv_used: share of the memory for keys and values that is taken, where it says so.
    """

    service: str
    pending: Callable[[], int]
    meter: EngineMeter | None = None
    kv_used: Callable[[], float] | None = None


class EngineMetrics:
    """Metrics of one engine.

    Args:
        backend: the module `triton_python_backend_utils`.
    """

    def __init__(self, backend: Any, watched: Watched) -> None:
        self._backend = backend
        self._watched = watched
        self._families: list[Any] = []  # Triton forgets a metric whose family is gone
        labels = {"service": watched.service}
        self._pending = self._gauge(catalogue.MODEL_PENDING, labels)
        self._kv_used = self._gauge(catalogue.LM_KV_USED, {}) if watched.kv_used is not None else None
        self._counters = (
            {name: (self._counter(metric, part, labels), 0.0) for name, (metric, part) in _SUMS.items()}
            if watched.meter is not None
            else {}
        )

    def publish(self) -> None:
        """Tells Triton how it stands now."""
        self._pending.set(self._watched.pending())
        if self._kv_used is not None and self._watched.kv_used is not None:
            self._kv_used.set(self._watched.kv_used())
        for name, (counter, before) in self._counters.items():
            now = float(getattr(self._watched.meter, name))
            if now > before:
                counter.increment(now - before)
                self._counters[name] = counter, now

    def _gauge(self, metric: Metric, labels: Mapping[str, str]) -> Any:
        return self._metric(metric.name, metric.help, self._backend.MetricFamily.GAUGE, labels)

    def _counter(self, metric: Metric, part: str, labels: Mapping[str, str]) -> Any:
        return self._metric(
            f"{metric.name}_{part}", f"{metric.help} ({part})", self._backend.MetricFamily.COUNTER, labels
        )

    def _metric(self, name: str, text: str, kind: Any, labels: Mapping[str, str]) -> Any:
        family = self._backend.MetricFamily(name=name, description=text, kind=kind)
        self._families.append(family)
        return family.Metric(labels=dict(labels))


# attributes of `EngineMeter`
_SUMS = {
    "waits": (catalogue.MODEL_QUEUE, "count"),
    "wait_seconds": (catalogue.MODEL_QUEUE, "sum"),
    "steps": (catalogue.MODEL_STEP, "count"),
    "step_seconds": (catalogue.MODEL_STEP, "sum"),
    "served": (catalogue.MODEL_BATCH, "sum"),
}
