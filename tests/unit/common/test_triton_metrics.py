from types import SimpleNamespace
from typing import Any

from services.common.telemetry.model_service import EngineMeter
from services.common.triton_metrics import EngineMetrics, Watched


class Family:
    """As Triton's python backend has them."""

    COUNTER, GAUGE = "counter", "gauge"
    values: dict[str, float]

    def __init__(self, name: str, description: str, kind: str) -> None:
        self.name, self.kind = name, kind

    def Metric(self, labels: dict[str, str]) -> Any:
        def put(value: float) -> None:
            assert self.kind == self.GAUGE
            self.values[self.name] = value

        def add(value: float) -> None:
            assert self.kind == self.COUNTER
            self.values[self.name] = self.values.get(self.name, 0.0) + value

        return SimpleNamespace(set=put, increment=add)


def test_an_engines_state_and_sums_are_published_once_each() -> None:
    values: dict[str, float] = {}
    backend = SimpleNamespace(MetricFamily=type("TestFamily", (Family,), {"values": values}))
    meter = EngineMeter("lm")
    metrics = EngineMetrics(backend, Watched("lm", lambda: 3, meter, lambda: 0.5))
    meter.waited(0.25)
    meter.stepped(4, 0.5)
    metrics.publish()
    meter.stepped(2, 0.25)
    metrics.publish()
    metrics.publish()
    assert values == {
        "trunkline_model_pending_requests": 3,
        "trunkline_lm_kv_used_ratio": 0.5,
        "trunkline_model_queue_seconds_count": 1,
        "trunkline_model_queue_seconds_sum": 0.25,
        "trunkline_model_step_seconds_count": 2,
        "trunkline_model_step_seconds_sum": 0.75,
        "trunkline_model_batch_size_sum": 6,
    }
