"""Instruments for the catalogue's metrics. While telemetry is off they are OpenTelemetry's own that do nothing."""

from collections.abc import Callable, Iterable, Mapping

from opentelemetry import metrics

from services.common.telemetry.catalogue import Kind, Metric

Labels = Mapping[str, str]
Reading = tuple[float, Labels]

_METER = metrics.get_meter("trunkline")


def counter(metric: Metric) -> metrics.Counter:
    """Counts up: `add(amount, labels)`."""
    assert metric.kind is Kind.COUNTER
    return _METER.create_counter(metric.instrument, metric.unit, metric.help)


def histogram(metric: Metric) -> metrics.Histogram:
    """Counts values by size: `record(value, labels)`."""
    assert metric.kind is Kind.HISTOGRAM
    return _METER.create_histogram(
        metric.instrument, metric.unit, metric.help, explicit_bucket_boundaries_advisory=metric.buckets
    )


def gauge(metric: Metric, read: Callable[[], Iterable[Reading]]) -> None:
    """Has a state read whenever somebody looks.

    Args:
        read: gives values with their labels. Called on a thread of its own: it looks, and changes nothing.
    """
    assert metric.kind is Kind.GAUGE

    def observe(options: metrics.CallbackOptions) -> Iterable[metrics.Observation]:
        return [metrics.Observation(value, dict(labels)) for value, labels in read()]

    _METER.create_observable_gauge(metric.instrument, [observe], metric.unit, metric.help)
