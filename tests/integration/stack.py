"""The real system as processes on free ports: Redis, the three model services, and agents."""

import asyncio
import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from services.agent.state.connection import Connection
from services.agent.state.keys import Keys
from services.agent.state.settings import StateSettings
from services.agent.state.store import Store
from trunkline.v1 import calls_pb2, calls_pb2_grpc

HOST = "127.0.0.1"
KEYS = Keys()
ROOT = Path(__file__).resolve().parents[2]
START_S = 120.0
SERVING = re.compile(r"serving on port (\d+)|Ready to accept connections")


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """A port that nobody uses now."""
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


class Process:
    """A child that says on which port it serves; its output goes into a log file."""

    def __init__(self, name: str, command: Sequence[str], log: Path) -> None:
        self.name = name
        self.log = log
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
        with log.open("wb") as output:
            self._child = subprocess.Popen(
                command, stdout=output, stderr=subprocess.STDOUT, cwd=ROOT, env=environment, process_group=0
            )
        self.port = 0

    @property
    def pid(self) -> int:
        return self._child.pid

    def wait_serving(self, seconds: float = START_S) -> int:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            match = SERVING.search(self.log.read_text(errors="replace"))
            if match is not None:
                self.port = int(match[1] or 0)
                return self.port
            if self._child.poll() is not None:
                raise AssertionError(f"{self.name} ended with {self._child.returncode}: {self.tail()}")
            time.sleep(0.05)
        self.stop()
        raise AssertionError(f"{self.name} did not serve within {seconds} s: {self.tail()}")

    def tail(self) -> str:
        return self.log.read_text(errors="replace")[-2000:]

    def kill(self) -> None:
        self._child.kill()
        self._child.wait()

    def terminate(self) -> None:
        """SIGTERM; `wait` tells when it has ended."""
        self._child.send_signal(signal.SIGTERM)

    def wait(self, seconds: float) -> int:
        """Until it has ended by itself; returns the exit status."""
        return self._child.wait(seconds)

    def stop(self, seconds: float = 60.0) -> int:
        """SIGTERM, and SIGKILL when that is not enough; returns the exit status."""
        if self._child.poll() is None:
            self._child.send_signal(signal.SIGTERM)
            try:
                self._child.wait(seconds)
            except subprocess.TimeoutExpired:
                self.kill()
        return int(self._child.returncode)


@dataclass
class Agent:
    """A running agent's addresses."""

    process: Process
    sip_port: int
    http_port: int
    calls: str
    host: str = HOST

    @property
    def page(self) -> str:
        return f"http://{self.host}:{self.http_port}"

    @property
    def sip_uri(self) -> str:
        return f"sip:trunkline@{self.host}:{self.sip_port}"


@dataclass
class Stack:
    """Redis and the three model services; `agent` runs an agent over them."""

    directory: Path
    redis_url: str
    tokenizer: str
    lm: str
    decoder: str
    processes: dict[str, Process] = field(default_factory=dict)

    @property
    def redis_port(self) -> int:
        """Of the one server."""
        return int(self.redis_url.rpartition("/")[0].rpartition(":")[2])

    def store(self, agent_id: str = "test") -> Store:
        """The agents' view of Redis; close its `redis`."""
        return Store(Connection.from_settings(StateSettings(redis_url=self.redis_url)), agent_id)

    @contextlib.contextmanager
    def agent(
        self,
        capacity: int = 2,
        personas: Path = ROOT / "personas",
        sip: bool = False,
        *more: str,
        sip_workers: int = 1,
        ends: int = 0,
        host: str = HOST,
        drain_s: float = 0.0,
        persona_files: str = "only",
        page_rate: str = "",
    ) -> Iterator[Agent]:
        """An agent of its own, reached by callers at `host`; ended on exit, and checked to end with status `ends`.

        Its personas are those of its files, whatever agents before it left in Redis; for others see `persona_files`.

        Args:
            drain_s: for which calls go on after SIGTERM.
            page_rate: limit for one address, from which all of a test's callers come.
        """
        http_port = free_port()
        sip_port = free_port(socket.SOCK_DGRAM) if sip else 0
        command = [sys.executable, "-m", "services.agent", "--redis-url", self.redis_url]
        command += ["--tokenizer", self.tokenizer, "--lm", self.lm, "--decoder", self.decoder]
        command += ["--sip-listen", f"{host}:{sip_port}" if sip else ""]
        command += ["--sip-workers", str(sip_workers)]
        command += ["--http-listen", f"{host}:{http_port}", "--calls-listen", f"{HOST}:0"]
        command += ["--capacity", str(capacity), "--personas", str(personas), "--drain-seconds", str(drain_s)]
        command += ["--persona-files", persona_files, "--page-rate", page_rate, *more]
        process = Process("agent", command, self.directory / f"agent-{http_port}.log")
        try:
            port = process.wait_serving()
            yield Agent(process, sip_port, http_port, f"{HOST}:{port}", host)
        finally:
            status = process.stop()
        assert status == ends, f"the agent ended with {status}: {process.tail()}"


def redis_server(directory: Path, port: int) -> Process:
    """A Redis that keeps everything in memory; wait until it serves."""
    command = ["redis-server", "--port", str(port), "--bind", HOST, "--save", "", "--dir", str(directory)]
    return Process("redis", command, directory / "redis.log")


@contextlib.contextmanager
def running(
    directory: Path,
    weights: dict[str, Path],
    elsewhere: dict[str, str] | None = None,
    capacity: int = 4,
    triton_url: str = "",
) -> Iterator[Stack]:
    """Starts Redis and the model services with these weights; stops them all. Other services run `elsewhere`.

    With `triton_url` the services run over that Triton, and it is Triton that has the weights.
    """
    redis_port = free_port()
    processes: dict[str, Process] = {}
    try:
        processes["redis"] = redis_server(directory, redis_port)
        for name, path in weights.items():
            command = [sys.executable, "-m", f"services.{name}", "--listen", f"{HOST}:0", "--capacity", str(capacity)]
            command += ["--log-level", "DEBUG"]
            local = ["--weights", str(path), "--threads", "1"]
            command += ["--backend", "triton", "--triton-url", triton_url] if triton_url else local
            processes[name] = Process(name, command, directory / f"{name}.log")
        for process in processes.values():
            process.wait_serving()
        addresses = {**(elsewhere or {}), **{name: f"{HOST}:{processes[name].port}" for name in weights}}
        yield Stack(directory, f"redis://{HOST}:{redis_port}/0", **addresses, processes=processes)
    finally:
        for process in processes.values():
            process.stop()


async def free_again(agent: Agent, seconds: float = 120.0) -> None:
    """Until no call is left."""
    async with grpc.aio.insecure_channel(agent.calls) as channel:
        stub = calls_pb2_grpc.CallsStub(channel)
        end = time.monotonic() + seconds
        while (await stub.Info(calls_pb2.CallsInfoRequest())).active:
            assert time.monotonic() < end, "calls are left"
            await asyncio.sleep(0.05)


def nano_weights() -> dict[str, Path]:
    """The shipped small models."""
    return {name: ROOT / "weights" / "nano" / name for name in ("tokenizer", "lm", "decoder")}
