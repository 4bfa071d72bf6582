from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from services.common.telemetry.catalogue import Kind, Metric
from services.common.telemetry.prometheus import Completed, Endpoint

COUNTED = Metric("trunkline_tests_total", Kind.COUNTER, "{test}", "Tests", {"kind": ("good", "bad")})
TIMED = Metric("trunkline_test_seconds", Kind.HISTOGRAM, "s", "Times", {"kind": ("good", "bad")}, (0.1, 1.0))
STATE = Metric("trunkline_test_ratio", Kind.GAUGE, "1", "State")


def shown(registry: CollectorRegistry, *metrics: Metric) -> dict[tuple[str, str, str], float]:
    text = generate_latest(Completed(registry, metrics)).decode()
    return {
        (sample.name, sample.labels.get("kind", ""), sample.labels.get("le", "")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_what_was_not_measured_yet_is_zero_and_what_nobody_reads_is_absent() -> None:
    found = shown(CollectorRegistry(), COUNTED, TIMED, STATE)
    assert found[("trunkline_tests_total", "good", "")] == 0
    assert found[("trunkline_test_seconds_count", "bad", "")] == 0
    assert found[("trunkline_test_seconds_bucket", "bad", "1.0")] == 0
    assert not [name for name, _, _ in found if name == STATE.name]


def test_what_opentelemetry_measured_has_the_catalogues_names_and_buckets() -> None:
    endpoint = Endpoint((COUNTED, TIMED, STATE))
    provider = MeterProvider([endpoint.reader], shutdown_on_exit=False)
    meter = provider.get_meter("test")
    meter.create_counter(COUNTED.instrument, COUNTED.unit).add(3, {"kind": "good"})
    times = meter.create_histogram(TIMED.instrument, TIMED.unit, explicit_bucket_boundaries_advisory=TIMED.buckets)
    times.record(0.5, {"kind": "good"})
    meter.create_gauge(STATE.instrument, STATE.unit).set(0.25)
    found = {
        (sample.name, sample.labels.get("kind", ""), sample.labels.get("le", "")): sample.value
        for family in text_string_to_metric_families(generate_latest(endpoint.registry).decode())
        for sample in family.samples
        if family.name.startswith("trunkline_")
    }
    assert found[("trunkline_tests_total", "good", "")] == 3
    assert found[("trunkline_tests_total", "bad", "")] == 0
    buckets = [found[("trunkline_test_seconds_bucket", "good", bound)] for bound in ("0.1", "1.0", "+Inf")]
    assert buckets == [0, 1, 1]
    assert found[("trunkline_test_seconds_bucket", "bad", "0.1")] == 0
    assert found[("trunkline_test_ratio", "", "")] == 0.25
    provider.shutdown()
