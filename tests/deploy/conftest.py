"""The tools deployments are checked with. `make check-deploy` makes them; without them these tests are left out."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.deploy.tools import HOME, Tools


@pytest.fixture(scope="session")
def tools() -> Tools:
    """helm, kubectl, docker-compose, hadolint, yamllint."""
    if not (HOME / ".trunkline").exists():
        reason = "deployment left out: there is no .venv-deploy; `make check-deploy` makes it and runs these tests"
        if os.environ.get("TRUNKLINE_REQUIRE_DEPLOY"):
            pytest.fail(reason)
        pytest.skip(reason)
    return Tools()


@pytest.fixture(scope="session")
def promtool(require_debian: Callable[..., None]) -> Path:
    """Prometheus' checker of rules."""
    require_debian("prometheus")
    return Path("/usr/bin/promtool")
