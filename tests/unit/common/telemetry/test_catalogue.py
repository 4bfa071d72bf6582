import re

import pytest

from services.agent.legs.base import LegKind
from services.agent.waterfall import STAGES
from services.common.telemetry import catalogue
from services.common.telemetry.catalogue import SERVICES, Kind, Metric, of_service

EVERY = {metric.name: metric for service in SERVICES for metric in of_service(service)}


@pytest.mark.parametrize("metric", EVERY.values(), ids=EVERY)
def test_names_follow_prometheus(metric: Metric) -> None:
    assert re.fullmatch(r"trunkline_[a-z]+(_[a-z]+)*", metric.name)
    assert metric.name.endswith("_total") == (metric.kind is Kind.COUNTER)
    assert ("_seconds" in metric.name) == (metric.unit == "s")
    assert metric.name.endswith("_ratio") == (metric.unit == "1")
    assert bool(metric.buckets) == (metric.kind is Kind.HISTOGRAM)
    assert list(metric.buckets) == sorted(set(metric.buckets))


def test_labels_have_the_values_that_the_code_uses() -> None:
    assert tuple(kind.value for kind in LegKind) == catalogue.LEGS
    assert catalogue.STAGES == STAGES


def test_a_model_service_has_its_own_series_alone() -> None:
    for service in catalogue.MODEL_SERVICES:
        assert {metric.labels.get("service", (service,)) for metric in of_service(service)} == {(service,)}
