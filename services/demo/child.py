"""One child process of the demo: started, watched for the line that says it serves, stopped."""

import asyncio
import contextlib
import ctypes
import os
import re
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

SERVING = re.compile(rb"serving on port (\d+)|Ready to accept connections")
_PR_SET_PDEATHSIG = 1


class ChildError(Exception):
    """A part of the demo could not start; the message is for the person at the terminal."""


def _die_with_parent() -> None:
    # Runs in the child before exec: should the demo itself be killed outright, the kernel ends its children.
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


class Child:
    """A process whose output goes to a log file.

    Args:
        name: what the terminal calls it.
        command: program and arguments.
        log: file for stdout and stderr.
        environment: added to the current environment.
    """

    def __init__(self, name: str, command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None):
        self.name = name
        self.port = 0
        self._command = command
        self._log = log
        self._environment = {**os.environ, **(environment or {}), "PYTHONUNBUFFERED": "1"}
        self._process: asyncio.subprocess.Process | None = None
        self._ready = asyncio.Event()
        self._reader: asyncio.Task[None] | None = None
        self._tail: list[bytes] = []

    @property
    def pid(self) -> int:
        """Process id, 0 before the start."""
        return self._process.pid if self._process else 0

    async def start(self, timeout_s: float) -> None:
        """Starts the process and waits until it says that it serves.

        Raises:
            ChildError: it ended or stayed silent; names the last line of its output and its log.
        """
        # A session of its own: Ctrl-C at the terminal reaches the demo alone, which then stops its parts in order.
        self._process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=self._environment,
            start_new_session=True,
            preexec_fn=_die_with_parent,
        )
        self._reader = asyncio.create_task(self._read())
        ready = asyncio.create_task(self._ready.wait())
        ended = asyncio.create_task(self._process.wait())
        done, pending = await asyncio.wait({ready, ended}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        if ready in done:
            return
        if ended in done:
            await self._reader  # the reason is in the last lines
            raise ChildError(f"{self.name} could not start: {self.last_line()} (log: {self._log})")
        raise ChildError(f"{self.name} was not ready after {timeout_s:.0f} s (log: {self._log})")

    async def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        with self._log.open("wb") as log:
            async for line in self._process.stdout:
                log.write(line)
                log.flush()
                if line.strip():
                    self._tail = [*self._tail[-4:], line]
                if not self._ready.is_set() and (match := SERVING.search(line)):
                    self.port = int(match[1] or 0)
                    self._ready.set()

    def last_line(self) -> str:
        """The last thing that the process said."""
        return self._tail[-1].decode(errors="replace").strip() if self._tail else "it said nothing"

    async def wait(self) -> int:
        """Waits for the end of the process; its exit status."""
        assert self._process is not None
        return await self._process.wait()

    async def stop(self, grace_s: float = 8.0) -> None:
        """Asks the process to end, and ends it after `grace_s` seconds if it has not."""
        process = self._process
        if process is None:
            return
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            try:
                await asyncio.wait_for(process.wait(), grace_s)
            except TimeoutError:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        if self._reader is not None:
            await self._reader
