"""Garbage of ended calls is collected in the moments when there is no call that it could delay."""

import asyncio
import gc
from collections.abc import Callable

from services.common.grpc_server import Slots

SETTLE_S = 1.0  # the last call's tasks and sockets are on their way out


async def collect_when_idle(
    slots: Slots, collect: Callable[[], object] = gc.collect, settle_s: float = SETTLE_S
) -> None:
    """For ever: one full collection each time the last call has ended.

    Calls end in reference cycles (pipelines, connections), and Python collects these only when enough others were made
    since: an agent that falls silent after a rush would keep the rush's memory until the next one.
    """
    while True:
        await slots.wait_busy()
        await slots.wait_idle()
        await asyncio.sleep(settle_s)
        if not slots.active:
            collect()
