"""Two replicas of each model service with weights/nano, on ports that they come back to when they were killed."""

import asyncio
import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from services.agent.replicas.stages import DECODER, LM, TOKENIZER, Stage
from tests.integration.stack import HOST, Process, Stack, free_port, nano_weights

STAGES: dict[str, Stage[Any]] = {"tokenizer": TOKENIZER, "lm": LM, "decoder": DECODER}


@dataclass
class Fleet:
    """The processes, by service and port."""

    directory: Path
    capacity: int
    processes: dict[tuple[str, int], Process] = field(default_factory=dict)
    started: int = 0

    def start(self, stage: str, port: int) -> None:
        """Starts a replica; `wait_serving` on it."""
        self.started += 1
        command = [sys.executable, "-m", f"services.{stage}", "--listen", f"{HOST}:{port}", "--threads", "1"]
        command += ["--weights", str(nano_weights()[stage]), "--capacity", str(self.capacity)]
        log = self.directory / f"{stage}-{port}-{self.started}.log"
        self.processes[stage, port] = Process(stage, command, log)

    def ports(self, stage: str) -> list[int]:
        """Of a service's replicas."""
        return [port for name, port in self.processes if name == stage]

    def addresses(self, stage: str) -> str:
        """As an agent is told."""
        return ",".join(f"{HOST}:{port}" for port in self.ports(stage))

    async def busiest(self, stage: str) -> int:
        """The port of the replica with the most streams now."""
        streams = {}
        for port in self.ports(stage):
            async with grpc.aio.insecure_channel(f"{HOST}:{port}") as channel:
                stub = STAGES[stage].stub(channel)
                info = await stub.Info(STAGES[stage].info, timeout=30.0, wait_for_ready=True)
                streams[port] = info.active - info.reserved, info.active
        return max(streams, key=lambda port: streams[port])

    async def kill_and_restart(self, stage: str, port: int) -> None:
        """kill -9, and the same again on the same port; returns when it serves.

        It starts with what the others leave of the machine: elsewhere it would do so on a node of its own.
        """
        self.processes[stage, port].kill()
        self.start(stage, port)
        starting = self.processes[stage, port]
        may_raise = os.geteuid() == 0  # nobody else can take a niceness back
        if may_raise:
            os.setpriority(os.PRIO_PROCESS, starting.pid, 19)
        await asyncio.to_thread(starting.wait_serving)
        if may_raise:
            _as_nice_as_others(starting.pid)


def _as_nice_as_others(pid: int) -> None:
    for thread in Path(f"/proc/{pid}/task").iterdir():
        os.setpriority(os.PRIO_PROCESS, int(thread.name), 0)


@contextlib.contextmanager
def fleet(directory: Path, capacity: int) -> Iterator[tuple[Fleet, Stack]]:
    """Starts all of them and Redis; stops them."""
    running = Fleet(directory, capacity)
    redis_port = free_port()
    command = ["redis-server", "--port", str(redis_port), "--bind", HOST, "--save", "", "--dir", str(directory)]
    redis = Process("redis", command, directory / "redis.log")
    try:
        for stage in STAGES:
            for _ in range(2):
                running.start(stage, free_port())
        for process in (redis, *running.processes.values()):
            process.wait_serving()
        tokenizer, lm, decoder = (running.addresses(stage) for stage in ("tokenizer", "lm", "decoder"))
        yield running, Stack(directory, f"redis://{HOST}:{redis_port}/0", tokenizer, lm, decoder)
    finally:
        for process in (*running.processes.values(), redis):
            process.stop()
