"""Ways into rendered objects."""

import re
from collections.abc import Iterator

from tests.deploy.tools import Object

MODELS = ("tokenizer", "lm", "decoder")


def pod_template(item: Object) -> Object:
    """The pod that an object is or makes; empty for others."""
    if item["kind"] == "Pod":
        return item
    found: Object = item.get("spec", {}).get("template", {})
    return found if "spec" in found else {}


def containers(pod: Object) -> list[Object]:
    """All of a pod, those that prepare it included."""
    return [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]


def pods(objects: list[Object]) -> Iterator[tuple[str, Object]]:
    """Pod templates with the component that they are of."""
    for item in objects:
        if template := pod_template(item):
            yield item["metadata"]["labels"]["app.kubernetes.io/component"], template


def environment(container: Object) -> dict[str, str]:
    """What a container's process sees, with examples for what the node tells."""
    found: dict[str, str] = {}
    for entry in container.get("env", []):
        value = entry["value"] if "value" in entry else f"example-{entry['valueFrom']['fieldRef']['fieldPath']}"
        found[entry["name"]] = re.sub(r"\$\((\w+)\)", lambda match: found[match[1]], str(value))
    return found


def is_selected(pod: Object, selector: dict[str, str]) -> bool:
    """Whether a selector's labels are a pod's."""
    return bool(selector.items() <= pod["metadata"]["labels"].items())
