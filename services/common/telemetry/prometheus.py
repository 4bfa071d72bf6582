"""The Prometheus endpoint. Counters and histograms are there from the start, at zero: a rate sees the first event."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import product

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from services.common.telemetry.catalogue import Kind, Metric


class Endpoint:
    """Serves `/metrics` from a thread of its own.

    Args:
        metrics: that are shown even before anything was measured.
    """

    def __init__(self, metrics: Sequence[Metric]) -> None:
        measured = CollectorRegistry(auto_describe=False)
        self.reader = PrometheusMetricReader(scope_info_enabled=False, registry=measured)
        self.registry = CollectorRegistry(auto_describe=False)
        self.registry.register(Completed(measured, metrics))
        ProcessCollector(registry=self.registry)
        GCCollector(registry=self.registry)

    def listen(self, host: str, port: int) -> int:
        """Opens the port; 0 takes a free one. Returns it.

        Raises:
            OSError: it cannot be listened on.
        """
        server, _ = start_http_server(port, host, self.registry)
        return int(server.server_port)


class Completed(Collector):
    """What was measured, and zeros for what was not yet.

    Args:
        measured: gives families of metrics.
        metrics: that there must be. A gauge that nobody reads has no samples: zero would be a lie.
    """

    def __init__(self, measured: Collector, metrics: Sequence[Metric]) -> None:
        self._measured = measured
        self._metrics = metrics

    def collect(self) -> Iterator[Family]:
        """All families."""
        found = {family.name: family for family in self._measured.collect()}
        for metric in self._metrics:
            name = metric.name.removesuffix("_total")
            _complete(metric, found.setdefault(name, _family(metric, name)))
        yield from found.values()


def _family(metric: Metric, name: str) -> Family:
    labels = sorted(metric.labels)
    match metric.kind:
        case Kind.COUNTER:
            return CounterMetricFamily(name, metric.help, labels=labels)
        case Kind.GAUGE:
            return GaugeMetricFamily(name, metric.help, labels=labels)
        case Kind.HISTOGRAM:
            return HistogramMetricFamily(name, metric.help, labels=labels)


def _complete(metric: Metric, family: Family) -> None:
    labels = sorted(metric.labels)
    seen = {tuple(sample.labels.get(label) for label in labels) for sample in family.samples}
    for values in product(*(metric.labels[label] for label in labels)):
        if values in seen:
            continue
        if isinstance(family, CounterMetricFamily):
            family.add_metric(values, 0.0)
        elif isinstance(family, HistogramMetricFamily):
            bounds: Iterable[str] = (*map(str, metric.buckets), "+Inf")
            family.add_metric(values, [(bound, 0.0) for bound in bounds], 0.0)
