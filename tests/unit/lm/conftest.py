import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from services.lm import weights
from services.lm.prompt import ChatTemplate
from services.lm.torch_engine import parameters
from services.lm.torch_engine.parameters import Parameters
from services.lm.torch_engine.planning import Chunks
from services.lm.torch_engine.runner import Runner
from services.lm.torch_engine.scheduler import Scheduler
from tests.unit.lm.checkpoint import write_checkpoint


@pytest.fixture(scope="session")
def checkpoint_dir(tmp_path_factory: pytest.TempPathFactory, golden_dir: Path) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("lm") / "weights", golden_dir)


@pytest.fixture(scope="session")
def template(checkpoint_dir: Path) -> ChatTemplate:
    return ChatTemplate.load(checkpoint_dir)


@pytest.fixture(scope="session")
def network(checkpoint_dir: Path) -> Parameters:
    return parameters.load(weights.inspect(checkpoint_dir), torch.float32)


@pytest.fixture
def make_scheduler(template: ChatTemplate, network: Parameters) -> Callable[..., Scheduler]:
    def make(
        context_length: int = 1024, chunk: int = 64, silent: int = 64, kv_tokens: int = 8192, reach: float = math.inf
    ) -> Scheduler:
        ends = network.architecture.end_tokens
        return Scheduler(Runner(network, kv_tokens), template, context_length, ends, Chunks(chunk, silent, reach))

    return make
