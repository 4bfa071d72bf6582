"""Debian's Kamailio as the SIP edge in front of an agent's workers."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from loadtest.sip.wire import caller
from services.agent.legs.sip import free_port

CONFIG = Path(__file__).parent / "kamailio" / "kamailio.cfg"
ITS_OWN = "udp:127.0.0.1:5059"


@contextlib.asynccontextmanager
async def edge(directory: Path, workers: Sequence[int], desks: Sequence[str] = ()) -> AsyncIterator[int]:
    """A running Kamailio, its files in `directory`, that spreads calls over workers on these ports; gives its own port.

    Args:
        desks: SIP URIs that a number from 200 to 299 is connected to; they take that number for their own.
    """
    port = free_port("127.0.0.1")
    _furnish(directory, port, workers, desks)
    log = directory / "kamailio.log"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            "kamailio", "-DD", "-E", "-m", "32", "-M", "4", "-f", str(directory / "kamailio.cfg"),
            "-w", str(directory), "-Y", str(directory),
            stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output,
        )  # fmt: skip
    try:
        await _answers(port, process, log)
        yield port
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), 15)
        except TimeoutError:
            process.kill()
            await process.wait()


def _furnish(directory: Path, port: int, workers: Sequence[int], desks: Sequence[str]) -> None:
    (directory / "kamailio.cfg").write_text(CONFIG.read_text().replace(ITS_OWN, f"udp:127.0.0.1:{port}"))
    sets = [f"1 sip:127.0.0.1:{worker} 0" for worker in workers] + [f"2 {desk} 0" for desk in desks]
    (directory / "dispatcher.list").write_text("\n".join(sets) + "\n")


async def _answers(port: int, process: asyncio.subprocess.Process, log: Path) -> None:
    async with asyncio.timeout(30):
        while True:
            if process.returncode is not None:
                raise RuntimeError(f"kamailio ended at its start, see {log}")
            with contextlib.suppress(TimeoutError):
                async with caller(port) as wire:
                    wire.request("OPTIONS")
                    await wire.response("OPTIONS", 405, timeout_s=0.5)
                    return
