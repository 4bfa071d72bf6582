"""Memory of ended calls is given back in the moments when there is no call that this could delay."""

import asyncio
import ctypes
import gc
from collections.abc import Callable

from services.common.grpc_server import Slots

SETTLE_S = 1.0  # the last call's tasks and sockets are on their way out


def tidy() -> None:
    """Collects garbage, and gives the machine back what it held: of a heap, the C library keeps what was once used."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of glibc; others give back by themselves
    if trim is not None:
        trim(0)


async def tidy_when_idle(slots: Slots, tidy: Callable[[], None] = tidy, settle_s: float = SETTLE_S) -> None:
    """For ever: tidies each time the last call has ended.

    Calls end in reference cycles (pipelines, connections), and Python collects these only when enough others were made
    since: an agent that falls silent after a rush would keep the rush's memory until the next one.
    """
    while True:
        await slots.wait_busy()
        await slots.wait_idle()
        await asyncio.sleep(settle_s)
        if not slots.active:
            tidy()
