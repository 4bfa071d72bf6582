"""A child process for as long as it is needed."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def end_in_order_on_sigterm() -> None:
    """Lets SIGTERM end this process as Ctrl-C does: what it started is ended first."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


@contextlib.asynccontextmanager
async def child(
    command: Sequence[str], log: Path, stop_s: float, **more: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A child, ended at the end.

    Args:
        log: takes what it says.
        stop_s: how long it may take to end after SIGTERM; killed then.
        more: go into its environment.
    """
    with open(log, "wb") as output:  # noqa: ASYNC230 - a file on this machine
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=ROOT,
            env={**os.environ, **more},
            stdout=output,
            stderr=output,
            stdin=asyncio.subprocess.DEVNULL,
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(process.wait(), stop_s)
            except TimeoutError:
                process.kill()
                await process.wait()
