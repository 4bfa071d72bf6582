"""The checkers themselves: that they do fail."""

from typing import Any

import pytest

from tests.deploy.tools import CRDS, Tools

CONFIG: dict[str, Any] = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "good"}, "data": {"k": "v"}}
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "kind": ({"kind": "ConfigMop"}, "no schema for kind ConfigMop of v1"),
    "version": ({"apiVersion": "v2"}, "no schema for kind ConfigMap of v2"),
    "group": ({"apiVersion": "example.com/v1", "kind": "PrometheusRule"}, "no schema for kind PrometheusRule"),
    "field": ({"dada": {}}, "dada"),
    "type": ({"data": {"key": 1}}, "data.key: 1 is not of type"),
}
RULE: dict[str, Any] = {"apiVersion": "monitoring.coreos.com/v1", "kind": "PrometheusRule"}


def rule(name: str, **more: Any) -> dict[str, Any]:
    groups = [{"name": "a", "rules": [{"alert": "A", "expr": "up == 0", **more}]}]
    return {**RULE, "metadata": {"name": name}, "spec": {"groups": groups}}


def test_what_is_wrong_is_found_and_nothing_else(tools: Tools) -> None:
    objects = [CONFIG, *({**CONFIG, "metadata": {"name": name}, **change} for name, (change, _) in WRONG.items())]
    found = tools.validate(objects)
    for name, (_, said) in WRONG.items():
        lines = [line for line in found if f" {name}: " in line]
        assert lines, f"{name}: nothing was found"
        assert all(said in line for line in lines), lines
    assert not [line for line in found if " good: " in line]


def test_objects_without_a_kind_and_none_at_all_are_wrong(tools: Tools) -> None:
    assert tools.validate([]) == ["no object at all"]
    nameless = [{"kind": "ConfigMap", "metadata": {"name": "a"}}, {"apiVersion": "v1", "metadata": {"name": "a"}}]
    assert [line.partition(":")[0] for line in tools.validate(nameless)] == ["no apiVersion", "no kind"]


def test_custom_resources_are_strict(tools: Tools) -> None:
    if not CRDS.is_dir():
        pytest.skip(f"custom resources are left out: there are no schemas in {CRDS}")
    [line] = tools.validate([rule("good"), rule("wrong", bogus=1)])
    assert line.startswith("PrometheusRule wrong: ")
    assert "bogus" in line
