"""An OpenTelemetry collector, as far as a test needs one: takes spans and metrics by OTLP and keeps them."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.common.v1.common_pb2 import KeyValue

from tests.integration.stack import HOST

WAIT_S = 60.0


@dataclass(frozen=True)
class ReceivedSpan:
    service: str
    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str  # empty for a root
    start_ns: int
    end_ns: int
    attributes: dict[str, Any]

    @property
    def told(self) -> tuple[str, str, str]:
        return self.service, self.name, self.kind


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps what comes."""

    def __init__(self) -> None:
        self.url = ""
        self._spans: list[ReceivedSpan] = []
        self._metrics: set[tuple[str, str]] = set()
        self._came = threading.Condition()

    @property
    def environment(self) -> dict[str, str]:
        """What a process is told that is to export here, and soon."""
        return {
            "OTEL_EXPORTER_OTLP_ENDPOINT": self.url,
            "OTEL_BSP_SCHEDULE_DELAY": "100",
            "OTEL_METRIC_EXPORT_INTERVAL": "1000",
        }

    @property
    def spans(self) -> list[ReceivedSpan]:
        with self._came:
            return list(self._spans)

    @property
    def metrics(self) -> set[tuple[str, str]]:
        """Services and the metrics that they have sent."""
        with self._came:
            return set(self._metrics)

    def wait(self, done: Callable[[list[ReceivedSpan]], bool], seconds: float = WAIT_S) -> bool:
        """Until the spans so far are what is wanted; whether that came to be."""
        with self._came:
            return self._came.wait_for(lambda: done(self._spans), seconds)

    def Export(
        self, request: trace_service_pb2.ExportTraceServiceRequest, context: grpc.ServicerContext
    ) -> trace_service_pb2.ExportTraceServiceResponse:
        with self._came:
            for resource in request.resource_spans:
                service = str(_values(resource.resource.attributes)["service.name"])
                for scope in resource.scope_spans:
                    self._spans += [_span(service, span) for span in scope.spans]
            self._came.notify_all()
        return trace_service_pb2.ExportTraceServiceResponse()

    def take_metrics(self, request: metrics_service_pb2.ExportMetricsServiceRequest) -> None:
        with self._came:
            for resource in request.resource_metrics:
                service = str(_values(resource.resource.attributes)["service.name"])
                for scope in resource.scope_metrics:
                    self._metrics |= {(service, metric.name) for metric in scope.metrics}
            self._came.notify_all()


class _Metrics(metrics_service_pb2_grpc.MetricsServiceServicer):
    def __init__(self, collector: Collector) -> None:
        self._collector = collector

    def Export(
        self, request: metrics_service_pb2.ExportMetricsServiceRequest, context: grpc.ServicerContext
    ) -> metrics_service_pb2.ExportMetricsServiceResponse:
        self._collector.take_metrics(request)
        return metrics_service_pb2.ExportMetricsServiceResponse()


def _values(attributes: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for item in attributes:
        assert isinstance(item, KeyValue)
        kind = item.value.WhichOneof("value")
        found[item.key] = getattr(item.value, kind) if kind else None
    return found


def _span(service: str, span: Any) -> ReceivedSpan:
    kind = type(span).SpanKind.Name(span.kind).removeprefix("SPAN_KIND_").lower()
    ids = (span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex())
    times = (span.start_time_unix_nano, span.end_time_unix_nano)
    return ReceivedSpan(service, span.name, kind, *ids, *times, _values(span.attributes))


@contextmanager
def collecting() -> Iterator[Collector]:
    """Listens on a free port."""
    collector = Collector()
    server = grpc.server(ThreadPoolExecutor(4))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)  # type: ignore[no-untyped-call]
    metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server(_Metrics(collector), server)  # type: ignore[no-untyped-call]
    collector.url = f"http://{HOST}:{server.add_insecure_port(f'{HOST}:0')}"
    server.start()
    try:
        yield collector
    finally:
        server.stop(1.0).wait()
