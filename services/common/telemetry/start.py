"""Turns telemetry on where the environment asks for it. Where it does not, this loads nothing of OpenTelemetry's SDK.

OTLP has OpenTelemetry's own variables: OTEL_EXPORTER_OTLP_ENDPOINT turns it on, OTEL_TRACES_EXPORTER=none and
OTEL_METRICS_EXPORTER=none turn a half of it off, OTEL_SDK_DISABLED all.
"""

import logging
import os
from collections.abc import Mapping

from services.common.errors import SetupError
from services.common.telemetry.catalogue import SERVICES, of_service
from services.common.telemetry.settings import TelemetrySettings

log = logging.getLogger(__name__)

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


def exports(signal: str, environment: Mapping[str, str]) -> bool:
    """Whether the environment asks for export by OTLP.

    Args:
        signal: `TRACES` or `METRICS`.
    """
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    if environment.get(f"OTEL_{signal}_EXPORTER", "otlp").strip().lower() == "none":
        return False
    return bool(environment.get(ENDPOINT) or environment.get(f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT"))


def start(service: str, settings: TelemetrySettings) -> None:
    """Starts what is wanted, once in a process. Exporting runs on threads of its own, and goes on to the exit.

    Args:
        service: the resource attribute `service.name`, unless OTEL_SERVICE_NAME says otherwise.

    Raises:
        SetupError: the metrics endpoint cannot be listened on.
    """
    traces, pushes = exports("TRACES", os.environ), exports("METRICS", os.environ)
    address = settings.metrics_address
    if not (traces or pushes or address):
        return
    # the SDK is loaded only where it is wanted
    from services.common.telemetry import sdk

    if traces:
        sdk.export_traces(service)
    try:
        metrics = of_service(service) if service in SERVICES else ()
        port = sdk.export_metrics(service, metrics, address, pushes)
    except OSError as error:
        raise SetupError(f"TRUNKLINE_METRICS_LISTEN {settings.metrics_listen}: {error.strerror}") from error
    if port is not None:
        log.info("metrics are served", extra={"port": port})
