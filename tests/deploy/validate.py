"""Validates Kubernetes objects strictly; runs in .venv-deploy, whose packages are not the project's.

`python validate.py --kubernetes 1.29 [--kubernetes 1.37] [--crds DIR] [FILE...]`: YAML from files or stdin. One line a
problem, exit status 1 where there is any. An object that no schema describes is a problem, whatever it is.
"""

import argparse
import functools
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate.utils as kubernetes
import yaml

# reading a version's definitions takes longer than validating with them
kubernetes.schema_contents = functools.lru_cache(maxsize=None)(kubernetes.schema_contents)

Object = dict[str, Any]


def crds(directory: Path | None) -> dict[tuple[str, str], Any]:
    """Schemas of custom resources by apiVersion and kind. A file is named `kind_version.json`; the group is within."""
    if directory is None:
        return {}
    found = {}
    for file in sorted(directory.glob("*.json")):
        kind, _, version = file.stem.partition("_")
        found[kind, version] = jsonschema.Draft202012Validator(json.loads(file.read_text()))
    return found


# the groups that the files of custom resources are about
GROUPS = {
    "certificate": "cert-manager.io",
    "grpcroute": "gateway.networking.k8s.io",
    "httproute": "gateway.networking.k8s.io",
    "podmonitor": "monitoring.coreos.com",
    "prometheusrule": "monitoring.coreos.com",
    "scaledobject": "keda.sh",
    "servicemonitor": "monitoring.coreos.com",
    "triggerauthentication": "keda.sh",
    "udproute": "gateway.networking.k8s.io",
}


def problems(item: Object, versions: list[str], custom: dict[tuple[str, str], Any]) -> Iterator[str]:
    """What is wrong with an object."""
    missing = [name for name in ("apiVersion", "kind", "metadata") if not item.get(name)]
    if missing:
        yield f"no {missing[0]}: {str(item)[:100]}"
        return
    api, kind = str(item["apiVersion"]), str(item["kind"])
    name = f"{kind} {item['metadata'].get('name')}"
    group, _, version = api.rpartition("/")
    schema = custom.get((kind.lower(), version)) if GROUPS.get(kind.lower()) == group else None
    if schema is not None:
        for error in schema.iter_errors(item):
            yield f"{name}: {where(error)}: {error.message[:300]}"
        return
    for wanted in versions:
        try:
            kubernetes.validate(item, wanted, strict=True)
        except kubernetes.ValidationError as error:
            yield f"{name}: Kubernetes {wanted}: {where(error)}: {error.message[:300]}"
        except kubernetes.SchemaNotFoundError:
            yield f"{name}: Kubernetes {wanted}: no schema for kind {kind} of {api}"


def where(error: jsonschema.ValidationError) -> str:
    """The path to a value."""
    return ".".join(str(part) for part in error.absolute_path) or "(top)"


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kubernetes", action="append", required=True)
    parser.add_argument("--crds", type=Path)
    parser.add_argument("--without", action="append", default=[], help="apiVersion that is left out")
    parser.add_argument("files", nargs="*", type=Path)
    options = parser.parse_args()
    custom = crds(options.crds)
    texts = [file.read_text() for file in options.files] or [sys.stdin.read()]
    count = wrong = 0
    for text in texts:
        for item in yaml.load_all(text, Loader=yaml.CSafeLoader):
            if item is None or item.get("apiVersion") in options.without:
                continue
            count += 1
            for problem in problems(item, options.kubernetes, custom):
                wrong += 1
                print(problem)
    if not count:
        print("no object at all")
    sys.exit(bool(wrong) or not count)


if __name__ == "__main__":
    main()
