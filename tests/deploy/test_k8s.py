"""k8s/ and the chart's copies of deploy/ are what `make k8s` makes, and kustomize makes of them what Helm renders."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.tools import CHART, ROOT, Object, ToolError, Tools, run

OVERLAYS = {"dev-cpu": "cpu", "single-gpu": "shared", "split-gpu": "split"}
NAMESPACE = "trunkline"
YAMLLINT = """
extends: default
rules:
  braces: {max-spaces-inside: 1}
  comments: {min-spaces-from-content: 1}
  document-start: disable
  indentation: {indent-sequences: consistent}
  line-length: {max: 160, allow-non-breakable-inline-mappings: true}
  truthy: {check-keys: false}
"""


def test_nothing_has_drifted(tools: Tools) -> None:
    run(tools.python, ROOT / "scripts" / "k8s.py", "--check")


def test_drift_is_noticed(tools: Tools, tmp_path: Path) -> None:
    for part in ("charts", "k8s", "scripts", "deploy"):
        shutil.copytree(ROOT / part, tmp_path / part)
    overlay = tmp_path / "k8s" / "overlays" / "dev-cpu"
    (overlay / "deployment-trunkline-lm.yaml").write_text("kind: Deployment\n")
    (overlay / "more.yaml").write_text("kind: ConfigMap\n")
    (tmp_path / "k8s" / "base" / "role-trunkline-agent.yaml").unlink()
    (tmp_path / "deploy" / "kamailio" / "tls.cfg").write_text("# other\n")
    with pytest.raises(ToolError) as failure:
        run(tools.python, tmp_path / "scripts" / "k8s.py", "--check")
    named = [line.split()[1] for line in str(failure.value).splitlines()]
    assert named == [
        "charts/trunkline/files/kamailio/tls.cfg",
        "k8s/base/role-trunkline-agent.yaml",
        "k8s/overlays/dev-cpu/deployment-trunkline-lm.yaml",
        "k8s/overlays/dev-cpu/more.yaml",
    ]


@pytest.fixture(scope="module", params=OVERLAYS)
def built(request: pytest.FixtureRequest, tools: Tools) -> tuple[str, list[Object]]:
    """An overlay's name and objects."""
    text = run(tools.kubectl, "kustomize", ROOT / "k8s" / "overlays" / request.param)
    return request.param, list(yaml.load_all(text, Loader=yaml.CSafeLoader))


def test_overlays_are_what_helm_renders(built: tuple[str, list[Object]], tools: Tools) -> None:
    overlay, objects = built
    values = yaml.safe_load((ROOT / "k8s" / "overlays" / overlay / "values.yaml").read_text())
    assert values["topology"] == OVERLAYS[overlay]
    rendered = tools.template(values=values, namespace=NAMESPACE)
    wanted = [item for item in rendered if "helm.sh/hook" not in item["metadata"].get("annotations", {})]
    for item in objects:
        assert item["metadata"].pop("namespace") == NAMESPACE
    assert by_name(objects) == by_name([without_helm(item) for item in wanted])


def test_overlays_are_valid(built: tuple[str, list[Object]], tools: Tools) -> None:
    assert tools.validate(built[1]) == []


def by_name(objects: list[Object]) -> dict[str, str]:
    found = {f"{item['kind']} {item['metadata']['name']}": json.dumps(item, sort_keys=True) for item in objects}
    assert len(found) == len(objects)
    return found


def without_helm(value: Any) -> Any:
    if isinstance(value, list):
        return [without_helm(part) for part in value]
    if isinstance(value, dict):
        mine = ("helm.sh/chart", "app.kubernetes.io/managed-by")
        return {name: without_helm(part) for name, part in value.items() if name not in mine}
    return value


def test_yaml_is_tidy(tools: Tools, tmp_path: Path) -> None:
    rules = tmp_path / "yamllint.yaml"
    rules.write_text(YAMLLINT)
    files = [CHART / "Chart.yaml", CHART / "values.yaml", *(ROOT / "k8s").rglob("values.yaml")]
    run(tools.yamllint, "--strict", "--config-file", rules, *files)
    # generated files: what can be wrong there, such as a key that is there twice
    run(
        tools.yamllint,
        "--config-data",
        "{extends: default, rules: {line-length: disable, document-start: disable}}",
        ROOT / "k8s",
    )
