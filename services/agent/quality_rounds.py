"""Tells watchers now and then how each call's audio gets through, while there are any."""

import asyncio
import logging

from services.agent.switchboard import Switchboard

log = logging.getLogger(__name__)

EVERY_S = 5.0


async def tell_quality(switchboard: Switchboard, every_s: float = EVERY_S) -> None:
    """For as long as it runs."""
    while True:
        await asyncio.sleep(every_s)
        if not switchboard.around.bus.watched:
            continue
        for call in switchboard.calls:
            try:
                await call.tell_quality()
            except Exception:
                log.exception("the quality of a call cannot be told", extra={"call_id": call.call_id})
