"""The system that is called: one that runs already, or the demo's, started for the run and stopped after it."""

import asyncio
import contextlib
import json
import socket
import sys
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loadtest.child import child

HOST = "127.0.0.1"
START_S = 240.0
STOP_S = 60.0


class StackError(Exception):
    """It could not be started; the message says why."""


@dataclass(frozen=True)
class Target:
    """Where to call.

    Attributes:
        calls: address of the Calls service; empty: not known.
        pids: of its processes by name; empty: not on this machine.
        page: URL of the agent's web page; empty: no calls over WebRTC.
        key: of its API; empty: none.
    """

    host: str
    port: int
    calls: str = ""
    pids: dict[str, int] = field(default_factory=dict)
    page: str = ""
    key: str = field(default="", repr=False)


def free_port(kind: socket.SocketKind) -> int:
    """A port that nobody uses now."""
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


@contextlib.asynccontextmanager
async def demo(weights: Path, capacity: int) -> AsyncIterator[Target]:
    """Starts `python -m services.demo` with these weights on free ports; stops it.

    Raises:
        StackError: it did not start; the message ends with what it said last.
    """
    with tempfile.TemporaryDirectory(prefix="trunkline-loadtest-") as directory:
        state, log = Path(directory) / "state.json", Path(directory) / "demo.log"
        settings = {
            "DEMO_SIP_PORT": free_port(socket.SOCK_DGRAM),
            "DEMO_HTTP_PORT": free_port(socket.SOCK_STREAM),
            "DEMO_CAPACITY": capacity,
            "DEMO_WEIGHTS": weights,
            "DEMO_STATE_DIR": directory,
        }
        environment = {name: str(value) for name, value in settings.items()}
        command = [sys.executable, "-m", "services.demo"]
        async with child(command, log, STOP_S, **environment, NO_COLOR="1") as process:
            yield await _started(process, state, log)


async def _started(process: asyncio.subprocess.Process, state: Path, log: Path) -> Target:
    end = asyncio.get_running_loop().time() + START_S
    while True:
        if text := _read(state):
            with contextlib.suppress(ValueError):  # half written
                return _target(json.loads(text))
        if process.returncode is not None or asyncio.get_running_loop().time() > end:
            raise StackError(f"the stack did not start: {_read(log).strip()[-500:]}")
        await asyncio.sleep(0.1)


def _read(path: Path) -> str:
    """A small file's text; empty while there is none."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def running(state: Path) -> Target:
    """The demo that runs already, by its state file.

    Raises:
        StackError: there is none.
    """
    try:
        return _target(json.loads(state.read_text()))
    except (OSError, ValueError, KeyError) as error:
        raise StackError(f"no running demo in {state.parent}: start `make demo`, or name --target HOST:PORT") from error


def _target(record: dict[str, Any]) -> Target:
    pids = {str(name): int(pid) for name, pid in record["pids"].items()}
    sip, page, key = record["sip"], str(record["api"]), str(record["api_key"])
    return Target(str(sip["host"]), int(sip["port"]), str(record["calls"]), pids, page, key)
