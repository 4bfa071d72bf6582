"""The tools deployments are checked with. `make check-deploy` makes them; without them these tests are left out."""

import functools
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.deploy.cases import CASES
from tests.deploy.tools import HOME, Object, Tools


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
def render(tools: Tools) -> Callable[[str], list[Object]]:
    """The chart's objects in a case; each is rendered once. Not to be changed."""

    @functools.cache
    def rendered(name: str) -> list[Object]:
        return tools.template(values=CASES[name].values, kubernetes=CASES[name].versions[0])

    return rendered


@pytest.fixture(scope="session")
def promtool(require_debian: Callable[..., None]) -> Path:
    """Prometheus' checker of rules."""
    require_debian("prometheus")
    return Path("/usr/bin/promtool")
