"""One Triton server for all tests here. `make triton` makes its environment; without it these tests are left out."""

import os
from collections.abc import Callable, Iterator

import pytest

from tests.integration import stack as stacks
from tests.integration.collector import Collector, collecting
from tests.triton.server import SERVER, TritonServer
from tests.triton.twins import TRITON_SESSIONS

LEASE_S = 6


@pytest.fixture(scope="session")
def collector() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


@pytest.fixture(scope="session")
def triton(collector: Collector, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonServer]:
    if not SERVER.exists():
        reason = "Triton left out: there is no .venv-triton; `make triton` makes it and runs these tests"
        if os.environ.get("TRUNKLINE_REQUIRE_TRITON"):
            pytest.fail(reason)
        pytest.skip(reason)
    services = ("TOKENIZER", "LM", "DECODER")
    settings = {f"TRUNKLINE_{service}_CAPACITY": str(TRITON_SESSIONS) for service in services}
    settings |= {f"TRUNKLINE_{service}_LEASE_S": str(LEASE_S) for service in services}
    settings |= {f"TRUNKLINE_{service}_THREADS": "1" for service in services}
    settings |= collector.environment
    server = TritonServer(tmp_path_factory.mktemp("triton"), **settings)
    server.start()
    try:
        server.wait_serving()
        yield server
    finally:
        status = server.stop()
    assert status == 0, server.text()[-3000:]


@pytest.fixture(scope="session")
def stack(
    triton: TritonServer,
    collector: Collector,
    tmp_path_factory: pytest.TempPathFactory,
    require_debian: Callable[..., None],
) -> Iterator[stacks.Stack]:
    """The running system of the integration tests, with all three models at Triton."""
    require_debian("redis-server")
    directory = tmp_path_factory.mktemp("stack")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in collector.environment.items():
            patch.setenv(name, value)
        with stacks.running(directory, stacks.nano_weights(), triton_url=triton.url) as running:
            yield running
