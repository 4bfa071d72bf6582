"""A service that should run over Triton, where there is none."""

import subprocess
import sys

import pytest

from tests.integration.stack import HOST, ROOT, free_port


@pytest.mark.parametrize("service", ["tokenizer", "lm", "decoder"])
def test_the_process_ends_with_one_line(service: str) -> None:
    url = f"{HOST}:{free_port()}"
    command = [sys.executable, "-m", f"services.{service}", "--listen", f"{HOST}:0"]
    command += ["--backend", "triton", "--triton-url", url, "--wait-for-triton", "0.3"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, cwd=ROOT)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"services.{service}: error: Triton at {url} does not serve ")
    assert len(done.stderr.splitlines()) == 1


def test_the_local_backend_needs_weights() -> None:
    command = [sys.executable, "-m", "services.lm", "--listen", f"{HOST}:0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, cwd=ROOT)
    assert (done.returncode, done.stderr) == (2, "services.lm: error: --weights: Field required\n")
