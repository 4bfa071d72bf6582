"""The PromQL in what the chart renders: alerts, the dashboard, the triggers of ScaledObjects."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

from tests.deploy.tools import Object

# sample name -> label -> values that were seen
Series = dict[str, dict[str, set[str]]]
_SAMPLE = re.compile(r"^([a-zA-Z_:]\w*)(?:\{(.*)\})? ", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')

# labels that Prometheus, the monitors and aggregations put there
TARGET = {"namespace", "job", "pod", "le"}
_NAME = re.compile(r"\b(?:trunkline|nv)_\w+")
_MATCHER = re.compile(r"(\w+)\s*(?:=~|!=|=)\s*\"([^\"]*)\"")
_GROUPING = re.compile(r"\b(?:by|on)\s*\(([^)]*)\)")


def exported(page: str) -> Series:
    """Samples of a page in Prometheus' text format, under the names that they have there.

    prometheus_client's parser gives counters the names that OpenMetrics wants.
    """
    found: Series = {}
    for name, rest in _SAMPLE.findall(page):
        labels = found.setdefault(name, {})
        for label, value in _LABEL.findall(rest):
            labels.setdefault(label, set()).add(value)
    return found


@dataclass(frozen=True)
class Query:
    """A query: where it stands, and what it says."""

    where: str
    text: str

    @property
    def metrics(self) -> set[str]:
        """Names of samples."""
        return set(_NAME.findall(self.text))

    @property
    def labels(self) -> set[str]:
        """Labels that are matched or grouped by, but for the target's."""
        grouped = {name.strip() for group in _GROUPING.findall(self.text) for name in group.split(",")}
        return (grouped | {name for name, _ in _MATCHER.findall(self.text)}) - TARGET

    @property
    def matchers(self) -> set[tuple[str, str]]:
        """Label and value of the exact matchers, but for the target's."""
        return {(name, value) for name, value in _MATCHER.findall(self.text) if name not in TARGET}


def queries(objects: list[Object]) -> Iterator[Query]:
    """All of them."""
    for item in objects:
        if item["kind"] == "PrometheusRule":
            for group in item["spec"]["groups"]:
                for rule in group["rules"]:
                    yield Query(rule["alert"], rule["expr"])
        elif item["kind"] == "ScaledObject":
            for trigger in item["spec"]["triggers"]:
                yield Query(f"{item['metadata']['name']} {trigger['name']}", trigger["metadata"]["query"])
        elif "trunkline.json" in item.get("data", {}):
            for panel in json.loads(item["data"]["trunkline.json"])["panels"]:
                for target in panel.get("targets", []):
                    yield Query(panel["title"], target["expr"])
