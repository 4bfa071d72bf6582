import subprocess
import sys

import pytest

from services.common.errors import SetupError
from services.common.telemetry.settings import TelemetrySettings
from services.common.telemetry.start import ENDPOINT, exports

OTLP = {ENDPOINT: "http://127.0.0.1:4317"}


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({}, (False, False)),
        (OTLP, (True, True)),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:4317"}, (True, False)),
        ({**OTLP, "OTEL_METRICS_EXPORTER": "none"}, (True, False)),
        ({**OTLP, "OTEL_TRACES_EXPORTER": "none"}, (False, True)),
        ({**OTLP, "OTEL_SDK_DISABLED": "true"}, (False, False)),
    ],
)
def test_what_the_environment_asks_for(environment: dict[str, str], wanted: tuple[bool, bool]) -> None:
    assert (exports("TRACES", environment), exports("METRICS", environment)) == wanted


def test_off_is_off_and_loads_no_sdk() -> None:
    program = (
        "import sys\n"
        "from services.common.telemetry.settings import TelemetrySettings\n"
        "from services.common.telemetry.start import start\n"
        "from services.common.telemetry import model_service, traces\n"
        "start('lm', TelemetrySettings.read())\n"
        "model_service.EngineMeter('lm').stepped(1, 0.1)\n"
        "assert not traces.begin('turn').is_recording() and traces.traceparent() == '' and traces.current() is None\n"
        "assert not [name for name in sys.modules if name.startswith(('opentelemetry.sdk', 'prometheus_client'))]\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, env={})


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert TelemetrySettings.read().metrics_address is None
    monkeypatch.setenv("TRUNKLINE_METRICS_LISTEN", "[::1]:9464")
    monkeypatch.setenv("TRUNKLINE_LOG_FORMAT", "json")
    settings = TelemetrySettings.read()
    assert (settings.metrics_address, settings.log_format) == (("::1", 9464), "json")
    assert settings.without_endpoint().metrics_address is None


@pytest.mark.parametrize(
    ("name", "value"),
    [("METRICS_LISTEN", "9464"), ("METRICS_LISTEN", "host:70000"), ("LOG_FORMAT", "xml")],
)
def test_bad_settings_are_named(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"TRUNKLINE_{name}", value)
    with pytest.raises(SetupError, match=f"TRUNKLINE_{name}: "):
        TelemetrySettings.read()
