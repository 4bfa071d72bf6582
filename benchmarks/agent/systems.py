"""What is measured, as processes: our agent over echoing models, and the bare bot."""

import asyncio
import contextlib
import os
import re
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

from loadtest.child import child
from loadtest.measure.usage import children
from loadtest.stack import free_port

HOST = "127.0.0.1"
START_S = 180.0
STOP_S = 30.0
SIP_WORKERS = 2
CAPACITY = 64
PERSONA = "name: default\nprompt: Say what you hear.\n"  # no greeting: whoever calls is heard from the first moment
SERVING = re.compile(r"agent: serving on port (\d+)")
PORTS = re.compile(r"serving on ports (\d+) (\d+) (\d+)")


@dataclass(frozen=True)
class System:
    """One that takes calls.

    Attributes:
        pids: of all its processes; the first is the main one.
        sip_ports: of its SIP workers; none where it has none.
        calls: address of its Calls service; empty where it has none.
        metrics: URL of its metrics, likewise.
        redis: URL of its Redis, likewise.
        log: what it says.
    """

    name: str
    pids: tuple[int, ...]
    page: str
    sip_ports: tuple[int, ...] = ()
    calls: str = ""
    metrics: str = ""
    redis: str = ""
    log: Path = Path(os.devnull)

    def cpu_s(self) -> float:
        """Processor time of all its threads so far, those that have ended included."""
        return sum(process_s(pid) for pid in self.pids)


def process_s(pid: int) -> float:
    """A process' processor time by the kernel's own account (the clock that clock_getcpuclockid(3) names), seconds."""
    return time.clock_gettime(~pid << 3 | 2)


def process(
    command: Sequence[str], log: Path, **more: str
) -> contextlib.AbstractAsyncContextManager[asyncio.subprocess.Process]:
    """A child of one thread for each of its libraries; `more` goes into its environment."""
    return child(command, log, STOP_S, OMP_NUM_THREADS="1", PYTHONUNBUFFERED="1", **more)


async def until_it_answers(url: str, running: asyncio.subprocess.Process, log: Path) -> None:
    """Until a page answers.

    Raises:
        RuntimeError: the process ended, or does not answer in time.
    """
    end = time.monotonic() + START_S
    async with httpx.AsyncClient(timeout=5.0) as client:
        while True:
            with contextlib.suppress(httpx.HTTPError):
                if (await client.get(url)).is_success:
                    return
            if running.returncode is not None or time.monotonic() > end:
                raise RuntimeError(f"no answer from {url}: {_tail(log)}")
            await asyncio.sleep(0.1)


async def until_it_says(what: re.Pattern[str], running: asyncio.subprocess.Process, log: Path) -> re.Match[str]:
    """Until a process has said something.

    Raises:
        RuntimeError: it ended, or does not say it in time.
    """
    end = time.monotonic() + START_S
    while (match := what.search(_tail(log))) is None:
        if running.returncode is not None or time.monotonic() > end:
            raise RuntimeError(f"{log.stem} did not start: {_tail(log)}")
        await asyncio.sleep(0.1)
    return match


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-500:]


@contextlib.asynccontextmanager
async def bare_bot(directory: Path) -> AsyncIterator[System]:
    """The bare bot."""
    port, log = free_port(socket.SOCK_STREAM), directory / "bare-bot.log"
    async with process([sys.executable, "-m", "benchmarks.agent.bare_bot", str(port)], log) as running:
        await until_it_answers(f"http://{HOST}:{port}/healthz", running, log)
        yield System("bare bot", (running.pid,), f"http://{HOST}:{port}")


@contextlib.asynccontextmanager
async def echo_models(directory: Path) -> AsyncIterator[tuple[str, str, str]]:
    """Addresses of tokenizer, LM and decoder, all of which echo."""
    log = directory / "echo-models.log"
    async with process([sys.executable, "-m", "benchmarks.agent.echo_models"], log) as running:
        ports = (await until_it_says(PORTS, running, log)).groups()
        tokenizer, lm, decoder = (f"{HOST}:{port}" for port in ports)
        yield tokenizer, lm, decoder


@contextlib.asynccontextmanager
async def agent(directory: Path, persona: str = PERSONA) -> AsyncIterator[System]:
    """Our agent, with Redis and models that echo."""
    redis_port, http_port, metrics_port = (free_port(socket.SOCK_STREAM) for _ in range(3))
    sip_port = _free_sip_ports()
    personas = directory / "personas"
    personas.mkdir(exist_ok=True)
    (personas / "default.yaml").write_text(persona)
    redis = ["redis-server", "--port", str(redis_port), "--bind", HOST, "--save", "", "--dir", str(directory)]
    async with (
        process(redis, directory / "redis.log"),
        echo_models(directory) as (tokenizer, lm, decoder),
    ):
        redis_url = f"redis://{HOST}:{redis_port}/0"
        command = [
            sys.executable, "-m", "services.agent",
            "--redis-url", redis_url,
            "--tokenizer", tokenizer, "--lm", lm, "--decoder", decoder,
            "--sip-listen", f"{HOST}:{sip_port}", "--sip-workers", str(SIP_WORKERS),
            "--http-listen", f"{HOST}:{http_port}", "--calls-listen", f"{HOST}:0",
            "--capacity", str(CAPACITY), "--page-rate", "", "--personas", str(personas), "--resume-seconds", "0",
        ]  # fmt: skip
        log = directory / "agent.log"
        metrics = f"{HOST}:{metrics_port}"
        async with process(command, log, TRUNKLINE_METRICS_LISTEN=metrics) as running:
            port = (await until_it_says(SERVING, running, log))[1]
            yield System(
                name="agent",
                pids=(running.pid, *children(running.pid)),
                page=f"http://{HOST}:{http_port}",
                sip_ports=tuple(sip_port + 2 * number for number in range(SIP_WORKERS)),
                calls=f"{HOST}:{port}",
                metrics=f"http://{metrics}/metrics",
                redis=redis_url,
                log=log,
            )


def _free_sip_ports() -> int:
    """A UDP port such that those of all workers, every second one from it on, are free."""
    while True:
        first = free_port(socket.SOCK_DGRAM)
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError, OverflowError):
            for number in range(SIP_WORKERS):
                probe = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                probe.bind((HOST, first + 2 * number))
            return first


@contextlib.asynccontextmanager
async def both() -> AsyncIterator[tuple[System, System]]:
    """Our agent and the bare bot, each idle while it is not called."""
    with tempfile.TemporaryDirectory(prefix="trunkline-agent-cost-") as name:
        directory = Path(name)
        async with agent(directory) as ours, bare_bot(directory) as bare:
            yield ours, bare
