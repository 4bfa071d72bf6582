"""OpenTelemetry's SDK, set up for a process of ours."""

import atexit
import contextlib
import threading
from collections.abc import Callable, Sequence
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
LAST_WORDS_S = 2.0  # a process that has ended its work waits so long for a collector to take what is left


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
    provider = TracerProvider(resource=resource(service), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    _at_exit(provider.shutdown)


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
        provider = MeterProvider(metric_readers=readers, resource=resource(service), shutdown_on_exit=False)
        metrics.set_meter_provider(provider)
        _at_exit(provider.shutdown)
    return endpoint.listen(*address) if endpoint is not None and address is not None else None


def _at_exit(shutdown: Callable[[], None]) -> None:
    """The SDK itself would wait for a collector that is away as long as for one export, with all its retries."""

    def end() -> None:
        thread = threading.Thread(target=shutdown, daemon=True)
        thread.start()
        thread.join(LAST_WORDS_S)

    atexit.register(end)
