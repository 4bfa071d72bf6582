"""Breaks what a scenario breaks, when it is time."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from loadtest.calls.line import Losses
from loadtest.scenario.model import Command, Drop, Kill
from loadtest.scenario.plan import Moment

KillReplica = Callable[[str, float], Awaitable[None]]  # of a service, which comes back after so many seconds
COMMAND_S = 120.0


class Faults:
    """Those of a run.

    Args:
        moments: in their order.
        losses: of all calls.
        kill: None: there is no system whose replicas could be killed.
    """

    def __init__(self, moments: Sequence[Moment], losses: Losses, kill: KillReplica | None) -> None:
        self._moments, self._losses, self._kill = moments, losses, kill

    async def __call__(self, began: float, done: list[tuple[float, str]]) -> None:
        """All of them.

        Args:
            began: monotonic seconds.
            done: takes the time of the run and what was done.
        """

        def note(what: str) -> None:
            done.append((time.monotonic() - began, what))

        async with asyncio.TaskGroup() as group:
            for moment in self._moments:
                await asyncio.sleep(max(0.0, began + moment.at_s - time.monotonic()))
                group.create_task(self._break(moment.fault, note))

    async def _break(self, fault: Kill | Drop | Command, note: Callable[[str], None]) -> None:
        match fault:
            case Kill():
                assert self._kill is not None
                note(f"kill {fault.service}")
                await self._kill(fault.service, fault.back_after_s)
                note(f"{fault.service} is back")
            case Drop():
                note(f"drop {fault.share:.0%} to {fault.to}")
                self._lose(fault, fault.share)
                await asyncio.sleep(fault.for_s)
                self._lose(fault, 0.0)
                note("drop ends")
            case Command():
                note(f"{fault.run[0]}: {await _run(fault.run)}")
                try:
                    await asyncio.sleep(fault.for_s if fault.undo is not None else 0.0)
                finally:  # when the run ends meanwhile as well
                    if fault.undo is not None:
                        note(f"{fault.undo[0]}: {await _run(fault.undo)}")

    def _lose(self, fault: Drop, share: float) -> None:
        if fault.to in ("caller", "both"):
            self._losses.to_caller = share
        if fault.to in ("bot", "both"):
            self._losses.to_bot = share


async def _run(command: Sequence[str]) -> str:
    """A program's end, in words."""
    try:
        child = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL
        )
    except OSError as error:
        return f"not run ({error.strerror})"
    try:
        async with asyncio.timeout(COMMAND_S):
            return f"status {await child.wait()}"
    finally:
        if child.returncode is None:
            with suppress(ProcessLookupError):
                child.kill()
            await child.wait()
