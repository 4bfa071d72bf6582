"""How an agent leaves: it takes no more calls, and stays until the last one it has is over, or its time is."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from enum import Enum
from typing import Any, Protocol

from services.common.grpc_server import Slots

log = logging.getLogger(__name__)


class Step(Enum):
    """What is due in the course of a drain."""

    NOTICE = "notice"  # callers are told that the call will end
    END = "end"  # the calls that are left are ended


class DrainPlan:
    """When callers are told, and when their calls are ended.

    Args:
        grace_s: from the beginning to the end.
        notice_s: how long before the end callers are told; at once when that is longer than `grace_s`.
    """

    def __init__(self, grace_s: float, notice_s: float) -> None:
        self._due = [(max(0.0, grace_s - notice_s), Step.NOTICE), (grace_s, Step.END)]
        if grace_s <= 0:
            del self._due[0]  # nobody would hear it
        self._began = 0.0

    def begin(self, now: float) -> None:
        """The drain begins; times are of any clock that never goes back, seconds."""
        self._began = now

    def steps(self, now: float) -> list[Step]:
        """What has become due since the last time."""
        due = [step for at, step in self._due if self._began + at <= now]
        del self._due[: len(due)]
        return due

    def wait_s(self, now: float) -> float:
        """Until something is due; 0 when all is done."""
        return max(0.0, self._began + self._due[0][0] - now) if self._due else 0.0


class Staff(Protocol):
    """Whoever has the calls."""

    @property
    def slots(self) -> Slots:
        """Counts them."""

    def announce_closing(self) -> None:
        """Tells the callers that their calls will end."""


async def drain(
    staff: Staff,
    plan: DrainPlan,
    withdraw: Callable[[], Awaitable[None]],
    give_up: "asyncio.Future[bool]",
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Returns when no call is left, or those that are left are to be ended.

    Args:
        withdraw: makes it known that new calls should go elsewhere.
        give_up: ends the drain at once.
    """
    staff.slots.draining = True  # readiness is off, and new calls are refused, from here on
    plan.begin(clock())
    log.info("draining", extra={"calls": staff.slots.active})
    withdrawing = asyncio.ensure_future(withdraw())
    idle = asyncio.ensure_future(staff.slots.wait_idle())
    endings: set[asyncio.Future[Any]] = {idle, give_up}
    try:
        while Step.END not in (steps := plan.steps(clock())):
            if Step.NOTICE in steps:
                log.info("callers are told that their calls will end", extra={"calls": staff.slots.active})
                staff.announce_closing()
            await asyncio.wait(endings, timeout=plan.wait_s(clock()), return_when=asyncio.FIRST_COMPLETED)
            if idle.done() or give_up.done():
                break
        if staff.slots.active:
            log.warning("calls are left at the end of the drain", extra={"calls": staff.slots.active})
        if not give_up.done():
            last: set[asyncio.Future[Any]] = {withdrawing, give_up}
            await asyncio.wait(last, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (withdrawing, idle):
            task.cancel()
        for outcome in await asyncio.gather(withdrawing, idle, return_exceptions=True):
            if isinstance(outcome, Exception):
                log.error("withdrawing failed", exc_info=outcome)
