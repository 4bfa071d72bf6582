"""Debian's Kamailio with the edge's configuration, in front of workers."""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from loadtest.sip.wire import caller
from tests.integration.stack import HOST, ROOT

CONFIG = ROOT / "deploy" / "kamailio"
LOOPBACK = "1 127.0.0.1 32 0 phones"
START_S = 30.0


@dataclass
class Edge:
    """A running edge: its ports, towards callers and towards agents, and its files."""

    port: int
    tls_port: int
    inside_port: int
    metrics_port: int
    directory: Path
    process: asyncio.subprocess.Process

    @property
    def log(self) -> Path:
        return self.directory / "kamailio.log"


@contextlib.asynccontextmanager
async def edge(
    directory: Path,
    workers: Sequence[int],
    desks: Sequence[str] = (),
    callers: Sequence[str] = (LOOPBACK,),
    environment: Mapping[str, str] | None = None,
) -> AsyncIterator[Edge]:
    """A running Kamailio, its files in `directory`, that spreads calls over workers on these ports.

    Args:
        desks: SIP URIs that a number from 200 to 299 is connected to; they take that number for their own.
        callers: lines of address.list.
        environment: more settings.
    """
    port, tls_port, inside_port, metrics_port = free_ports(4)
    sets = [f"1 sip:{HOST}:{worker} 0" for worker in workers] + [f"2 {desk} 0" for desk in desks]
    (directory / "dispatcher.list").write_text("\n".join(sets) + "\n")
    (directory / "address.list").write_text("\n".join(callers) + "\n")
    settings = {
        "TRUNKLINE_EDGE_HOST": HOST,
        "TRUNKLINE_EDGE_PORT": str(port),
        "TRUNKLINE_EDGE_TLS_PORT": str(tls_port),
        "TRUNKLINE_EDGE_INSIDE_PORT": str(inside_port),
        "TRUNKLINE_METRICS_LISTEN": f"{HOST}:{metrics_port}",
        "TRUNKLINE_EDGE_AGENTS_FILE": str(directory / "dispatcher.list"),
        "TRUNKLINE_EDGE_CALLERS_FILE": str(directory / "address.list"),
        "TRUNKLINE_EDGE_PROBE_SECONDS": "1",
        "TRUNKLINE_EDGE_DESKS": "^2[0-9][0-9]$",
        **(environment or {}),
    }
    with (directory / "kamailio.log").open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            "kamailio", "-DD", "-E", "-m", "32", "-M", "8", "-f", str(CONFIG / "kamailio.cfg"),
            "-w", str(directory), "-Y", str(directory), env={**os.environ, **settings},
            stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output,
        )  # fmt: skip
    running = Edge(port, tls_port, inside_port, metrics_port, directory, process)
    try:
        await _answers(running)
        yield running
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), 15)
        except TimeoutError:
            process.kill()
            await process.wait()


def free_ports(count: int) -> list[int]:
    """Ports that nobody uses now, over UDP and TCP."""
    ports: list[int] = []
    with contextlib.ExitStack() as stack:
        while len(ports) < count:
            datagrams = stack.enter_context(socket.socket(type=socket.SOCK_DGRAM))
            datagrams.bind((HOST, 0))
            port = int(datagrams.getsockname()[1])
            connections = stack.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                connections.bind((HOST, port))
                ports.append(port)
    return ports


async def _answers(running: Edge) -> None:
    async with asyncio.timeout(START_S):
        while True:
            if running.process.returncode is not None:
                raise RuntimeError(f"kamailio ended at its start: {running.log.read_text(errors='replace')[-2000:]}")
            with contextlib.suppress(TimeoutError):
                async with caller(running.port) as wire:
                    wire.request("OPTIONS")
                    await wire.response("OPTIONS", 200, 503, timeout_s=0.5)
                    return
