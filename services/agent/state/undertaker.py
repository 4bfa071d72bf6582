"""Marks calls as lost whose agent died, and frees what they held."""

import asyncio
import logging

from services.agent.state.connection import AWAY
from services.agent.state.store import Store

log = logging.getLogger(__name__)


async def bury_lost(store: Store) -> None:
    """Looks again and again, for as long as it runs; of several agents one does it at a time."""
    redis, period_s = store.redis, store.times.lease_s / 3
    turn = f"{redis.keys.live}:undertaker"
    while True:
        try:
            if await redis.client.set(turn, store.agent_id, nx=True, px=int(period_s * 900)):
                for call_id in await store.bury_lost():
                    log.warning("a call was lost with its agent", extra={"call_id": call_id})
        except AWAY as error:
            log.warning("Redis does not answer", extra={"error": type(error).__name__})
        await asyncio.sleep(period_s)
