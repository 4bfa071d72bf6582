"""The running system for integration tests: once with the shipped small models, once with tiny random ones."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration import stack as stacks
from tests.integration.redis_servers import Servers, clustered
from tests.unit.lm.checkpoint import write_checkpoint


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory, require_debian: Callable[..., None]) -> Iterator[stacks.Stack]:
    """Redis and the model services with weights/nano: what they say makes sense."""
    require_debian("redis-server")
    with stacks.running(tmp_path_factory.mktemp("stack"), stacks.nano_weights()) as running:
        yield running


@pytest.fixture(scope="session")
def tiny_stack(
    tmp_path_factory: pytest.TempPathFactory, require_debian: Callable[..., None], golden_dir: Path
) -> Iterator[stacks.Stack]:
    """The same with the golden data's random weights: noise, but quick, and true to every contract."""
    require_debian("redis-server")
    directory = tmp_path_factory.mktemp("tiny-stack")
    lm = write_checkpoint(directory / "lm-weights", golden_dir, context_length=1024)
    weights = {"tokenizer": golden_dir / "tokenizer", "lm": lm, "decoder": golden_dir / "decoder"}
    with stacks.running(directory, weights) as running:
        yield running


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory, require_debian: Callable[..., None]) -> Iterator[Servers]:
    """A Redis Cluster of three primaries."""
    require_debian("redis-server")
    with clustered(tmp_path_factory.mktemp("cluster")) as servers:
        yield servers
