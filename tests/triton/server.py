"""The real Triton server as a child process, which can be killed and started again on the same ports."""

import asyncio
import os
import re
import signal
import subprocess
import time
from pathlib import Path

from tests.integration.stack import HOST, ROOT, free_port

SERVER = ROOT / ".venv-triton" / "tritonserver"
START_S = 240.0
_SERVES = re.compile(r"Started GRPCInferenceService")
_OURS = re.compile(r"^(trunkline_\w+(?:\{[^}]+\})?)(?:\{\})? (\S+)$", re.MULTILINE)
_GAUGE = re.compile(r'^trunkline_sessions\{model="(\w+)",state="live"\} (\d+)', re.MULTILINE)


class TritonServer:
    """Serves model_repo with weights/nano.

    Args:
        directory: for its logs.
        settings: environment variables of the models.
    """

    def __init__(self, directory: Path, **settings: str) -> None:
        self._directory = directory
        self._settings = settings
        self._grpc, self._metrics = free_port(), free_port()
        self._starts = 0
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"{HOST}:{self._grpc}"

    @property
    def metrics_port(self) -> int:
        return self._metrics

    @property
    def log(self) -> Path:
        return self._directory / f"triton-{self._starts}.log"

    def start(self) -> None:
        self._starts += 1
        command = [str(ROOT / "scripts" / "triton.sh"), "serve", "--allow-http", "false"]
        command += ["--grpc-address", HOST, "--grpc-port", str(self._grpc)]
        command += ["--metrics-address", HOST, "--metrics-port", str(self._metrics), "--exit-timeout-secs", "5"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", **self._settings}
        with self.log.open("wb") as output:
            self._child = subprocess.Popen(
                command, stdout=output, stderr=subprocess.STDOUT, env=environment, process_group=0
            )

    def wait_serving(self) -> None:
        assert self._child is not None
        until = time.monotonic() + START_S
        while not _SERVES.search(self.text()):
            if self._child.poll() is not None:
                raise AssertionError(f"Triton ended with {self._child.returncode}: {self.text()[-3000:]}")
            assert time.monotonic() < until, f"Triton does not serve: {self.text()[-3000:]}"
            time.sleep(0.1)

    @property
    def running(self) -> bool:
        return self._child is not None and self._child.poll() is None

    def text(self) -> str:
        return self.log.read_text(errors="replace")

    def kill(self) -> None:
        """As by the kernel when memory runs out: the server alone, at once."""
        assert self._child is not None
        self._child.kill()
        self._child.wait()

    def stop(self) -> int:
        assert self._child is not None
        if self._child.poll() is None:
            self._child.send_signal(signal.SIGTERM)
            try:
                self._child.wait(60)
            except subprocess.TimeoutExpired:
                self.kill()
        return self._child.returncode

    def processes(self) -> int:
        """How many there are, the models' own among them."""
        assert self._child is not None
        return sum(_group_of(path) == self._child.pid for path in Path("/proc").iterdir() if path.name.isdigit())

    async def sessions(self) -> dict[str, int]:
        """Live sessions of each model, as Triton's metrics endpoint says."""
        return {model: int(count) for model, count in _GAUGE.findall(await self._page())}

    async def metrics(self) -> dict[str, float]:
        """Our own series at that endpoint, as they are written there."""
        return {series: float(value) for series, value in _OURS.findall(await self._page())}

    async def _page(self) -> str:
        reader, writer = await asyncio.open_connection(HOST, self._metrics)
        writer.write(b"GET /metrics HTTP/1.0\r\n\r\n")
        page = (await reader.read()).decode()
        writer.close()
        return page

    async def until_idle(self, seconds: float = 60.0) -> None:
        """Until no session is left at any model."""
        until = time.monotonic() + seconds
        while any((found := await self.sessions()).values()):
            assert time.monotonic() < until, f"sessions are left: {found}"
            await asyncio.sleep(0.05)


def _group_of(process: Path) -> int:
    try:
        fields = (process / "stat").read_text().rpartition(")")[2].split()
    except OSError:  # it has just ended
        return 0
    return 0 if fields[0] == "Z" else int(fields[2])
