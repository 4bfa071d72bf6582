"""SIPp as caller and callee. A scenario is one of `sipp/*.xml` or SIPp's own, and is checked message by message."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path

from services.agent.legs.sip import free_port

SCENARIOS = Path(__file__).parent / "sipp"


class ScenarioFailedError(AssertionError):
    """A call did not go as the scenario says; the message is SIPp's output."""


async def sipp(port: int, scenario: str, *arguments: str) -> None:
    """One call to `port` of loopback.

    Raises:
        ScenarioFailedError: something unexpected came, or something expected did not.
    """
    process = await asyncio.create_subprocess_exec(
        "sipp", f"127.0.0.1:{port}", *_options(scenario), "-m", "1", *arguments,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    await _succeed(process)


@contextlib.asynccontextmanager
async def sipp_callee(
    scenario: str, calls: int = 1, must_succeed: bool = False, transport: str = "udp"
) -> AsyncIterator[str]:
    """SIPp as someone who is called, or registered at, so many times; gives its URI.

    Raises:
        ScenarioFailedError: when `must_succeed`, and the scenario was not gone through by the end.
    """
    port = free_port("127.0.0.1", ("udp", "tcp"))
    process = await asyncio.create_subprocess_exec(
        "sipp", *_options(scenario), "-p", str(port), "-m", str(calls), "-t", f"{transport[0]}1",
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        async with asyncio.timeout(10):
            while not _taken(port, transport):
                await asyncio.sleep(0.02)
        yield f"sip:callee@127.0.0.1:{port}"
        if must_succeed:
            await _succeed(process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def _options(scenario: str) -> list[str]:
    own = SCENARIOS / f"{scenario}.xml"
    which = ["-sf", str(own)] if own.exists() else ["-sn", scenario]
    hosts = ["-i", "127.0.0.1", "-mi", "127.0.0.1"]
    return [*which, *hosts, "-nostdin", "-timeout", "40s", "-timeout_error"]


async def _succeed(process: asyncio.subprocess.Process) -> None:
    output, _ = await process.communicate()
    if process.returncode:
        raise ScenarioFailedError(output.decode(errors="replace"))


def _taken(port: int, transport: str) -> bool:
    with socket.socket(type=socket.SOCK_DGRAM if transport == "udp" else socket.SOCK_STREAM) as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False
