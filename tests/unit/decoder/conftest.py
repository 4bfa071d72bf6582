from pathlib import Path

import pytest

from services.decoder.weights import Checkpoint, load


@pytest.fixture(scope="session")
def tiny(golden_dir: Path) -> Checkpoint:
    return load(golden_dir / "decoder")
