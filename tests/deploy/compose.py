"""docker-compose.yml as Compose itself resolves it."""

import json
import os
import re
from collections.abc import Iterable
from typing import Any

from tests.deploy.tools import ROOT, Tools, run

Service = dict[str, Any]
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0}


def resolved(tools: Tools, *profiles: str, files: Iterable[str] = (), **environment: str) -> dict[str, Any]:
    """What `docker compose config` says.

    Args:
        profiles: as with `--profile`; without one, .env decides.
        files: further compose files.
        environment: of the one who calls it.
    """
    command: list[str] = [str(tools.compose)]
    for file in ("docker-compose.yml", *files) if files else ():
        command += ["--file", file]
    for profile in profiles:
        command += ["--profile", profile]
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("TRUNKLINE_", "COMPOSE_"))}
    text = run(*command, "config", "--format", "json", cwd=ROOT, environment={**clean, **environment})
    project: dict[str, Any] = json.loads(text)
    return project


def services(project: dict[str, Any]) -> dict[str, Service]:
    """Its services."""
    found: dict[str, Service] = project["services"]
    return found


def seconds(text: str) -> float:
    """A duration such as 10m30s, as Compose writes it."""
    return sum(float(number) * _UNITS[unit] for number, unit in re.findall(r"([\d.]+)([hms])", text))
