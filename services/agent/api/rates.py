"""How many requests somebody may make: counted in fixed windows, in this process's memory."""

import ipaddress
import math
import time

from limits import RateLimitItem, parse_many
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import FixedWindowRateLimiter


class Rates:
    """Limits, each counted for each client by itself.

    Args:
        limits: such as `20/second;600/minute`; empty: no limit.

    Raises:
        ValueError: not of this form.
    """

    def __init__(self, limits: str) -> None:
        self._items: list[RateLimitItem] = parse_many(limits) if limits else []
        self._limiter = FixedWindowRateLimiter(MemoryStorage())

    async def refused(self, client: str) -> int | None:
        """Counts a request; whole seconds after which to try again when it is one too many, else None."""
        wait = None
        for item in self._items:
            if not await self._limiter.hit(item, client):
                stats = await self._limiter.get_window_stats(item, client)
                wait = max(wait or 1, math.ceil(stats.reset_time - time.time()))
        return wait


def address_group(host: str | None) -> str:
    """What counts as one client: an IPv4 address, or the /64 network that an IPv6 subscriber has to themselves."""
    try:
        address = ipaddress.ip_address(host or "")
    except ValueError:
        return host or "unknown"
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.IPv6Network((address, 64), strict=False))
    return str(address)
