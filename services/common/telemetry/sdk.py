"""OpenTelemetry's SDK, set up for a process of ours."""

import contextlib
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

from opentelemetry import metrics, trace
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from services.common.telemetry.catalogue import Metric
from services.common.telemetry.prometheus import Endpoint

NAMESPACE = "trunkline"


def resource(service: str) -> Resource:
    """Who speaks, by the semantic conventions; OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES win."""
    name = f"{NAMESPACE}-{service}"
    ours = {"service.namespace": NAMESPACE, "service.name": name}
    with contextlib.suppress(PackageNotFoundError):  # run from a folder that was never installed
        ours["service.version"] = version(NAMESPACE)
    told = Resource.create()  # the environment's, and the SDK's own
    if str(told.attributes[SERVICE_NAME]).startswith("unknown_service"):
        told = told.merge(Resource({SERVICE_NAME: name}))
    return Resource(ours).merge(told)


def export_traces(service: str) -> None:
    """Sends spans by OTLP, in batches; when the collector is away they are dropped, and nobody waits."""
    provider = TracerProvider(resource=resource(service))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)


def export_metrics(
    service: str, catalogue: Sequence[Metric], address: tuple[str, int] | None, pushes: bool
) -> int | None:
    """Serves metrics to Prometheus, sends them by OTLP, or both. Returns the port of the endpoint, if there is one.

    Raises:
        OSError: the address cannot be listened on.
    """
    readers: list[MetricReader] = []
    endpoint = Endpoint(catalogue) if address is not None else None
    if endpoint is not None:
        readers.append(endpoint.reader)
    if pushes:
        readers.append(PeriodicExportingMetricReader(OTLPMetricExporter()))
    if readers:
        metrics.set_meter_provider(MeterProvider(metric_readers=readers, resource=resource(service)))
    return endpoint.listen(*address) if endpoint is not None and address is not None else None
