"""Debian's Kamailio with the edge's configuration, in front of workers."""

import asyncio
import contextlib
import os
import re
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

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
    def ports(self) -> tuple[int, int, int, int]:
        return self.port, self.tls_port, self.inside_port, self.metrics_port

    async def command(self, *words: str) -> None:
        """One of kamcmd's.

        Raises:
            AssertionError: it is refused.
        """
        process = await asyncio.create_subprocess_exec(
            "kamcmd", "-s", f"unix:{self.directory}/kamailio_ctl", *words,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        output, _ = await process.communicate()
        assert (process.returncode, output[:5] == b"error") == (0, False), output.decode()

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
    prefix: Sequence[str] = (),
    ports: Sequence[int] = (),
) -> AsyncIterator[Edge]:
    """A running Kamailio, its files in `directory`, that spreads calls over workers on these ports.

    Args:
        desks: SIP URIs that a number from 200 to 299 is connected to; they take that number for their own.
        callers: lines of address.list.
        environment: more settings.
        prefix: of the command.
        ports: to take instead of free ones: SIP, SIP over TLS, inside, metrics.
    """
    port, tls_port, inside_port, metrics_port = ports or free_ports(4)
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
        "TRUNKLINE_EDGE_CONTROL": f"unix:{directory}/kamailio_ctl",
        "TRUNKLINE_EDGE_ANSWER_MS": "5000",  # a machine may stall
        "TRUNKLINE_EDGE_DESKS": "^2[0-9][0-9]$",
        **(environment or {}),
    }
    with (directory / "kamailio.log").open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *prefix, "kamailio", "-DD", "-E", "-m", "32", "-M", "8", "-f", str(CONFIG / "kamailio.cfg"),
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


def tls_settings(directory: Path) -> dict[str, str]:
    """TLS with `tls/certificate.pem` and its key in `directory`, where the configuration comes to lie too."""
    text = (CONFIG / "tls.cfg").read_text()
    for file, ours in (("tls.crt", "certificate.pem"), ("tls.key", "key.pem")):
        text = text.replace(f"/etc/kamailio/tls/{file}", str(directory / "tls" / ours))
    (directory / "tls.cfg").write_text(text)
    return {"TRUNKLINE_EDGE_TLS": str(directory / "tls.cfg")}


async def checked(environment: Mapping[str, str]) -> None:
    """Kamailio's own check of the configuration, with the lists that come with it.

    Raises:
        AssertionError: it says anything but that the file is well.
    """
    files = {
        "TRUNKLINE_EDGE_AGENTS_FILE": str(CONFIG / "dispatcher.list"),
        "TRUNKLINE_EDGE_CALLERS_FILE": str(CONFIG / "address.list"),
    }
    process = await asyncio.create_subprocess_exec(
        "kamailio", "-c", "-f", str(CONFIG / "kamailio.cfg"), env={**os.environ, **files, **environment},
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    _, errors = await process.communicate()
    assert (process.returncode, errors.decode().strip()) == (0, "config file ok, exiting...")


async def metric(running: Edge, name: str) -> float:
    """A metric's value now; 0 when it is not there. Labels as `{caller="x", reason="y"}`."""
    async with httpx.AsyncClient(timeout=START_S) as client:
        text = (await client.get(f"http://{HOST}:{running.metrics_port}/metrics")).text
    plain = text.replace(" {", "{")
    found = re.search(rf"^trunkline_edge_{re.escape(name)} (\S+)", plain, re.MULTILINE)
    return float(found[1]) if found else 0.0
