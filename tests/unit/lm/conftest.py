from collections.abc import Callable
from pathlib import Path

import pytest

from services.lm import weights
from services.lm.prompt import ChatTemplate
from services.lm.torch_engine.runner import Runner
from services.lm.torch_engine.scheduler import Scheduler
from tests.unit.lm.checkpoint import write_checkpoint


@pytest.fixture(scope="session")
def checkpoint_dir(tmp_path_factory: pytest.TempPathFactory, golden_dir: Path) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("lm") / "weights", golden_dir)


@pytest.fixture(scope="session")
def loaded(checkpoint_dir: Path) -> tuple[ChatTemplate, weights.Checkpoint]:
    return ChatTemplate.load(checkpoint_dir), weights.load(checkpoint_dir)


@pytest.fixture(scope="session")
def template(loaded: tuple[ChatTemplate, weights.Checkpoint]) -> ChatTemplate:
    return loaded[0]


@pytest.fixture
def make_scheduler(loaded: tuple[ChatTemplate, weights.Checkpoint]) -> Callable[..., Scheduler]:
    template, checkpoint = loaded

    def make(context_length: int = 1024, step_tokens: int = 64) -> Scheduler:
        return Scheduler(Runner(checkpoint.model), template, context_length, checkpoint.end_tokens, step_tokens)

    return make
