"""Slots that calls hold ahead of their streams: a call that was answered always has its place.

A reservation is a Reserve stream. Streams name it in their metadata and then use its slot, one after another.
"""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc

from services.common.grpc_server import Slots

METADATA_KEY = "trunkline-reservation"
# The stream before is being cancelled: its client has ended it, and its handler has not yet. One that overlaps for
# longer takes a slot of its own.
OVERLAP_S = 5.0


class _Reserved:
    def __init__(self) -> None:
        self.use = asyncio.Lock()
        self.ended = False


class Reservations:
    """The reserved slots of a service. Not thread-safe: used from one event loop.

    Args:
        slots: of the service; each reservation takes one of them.
    """

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self._reserved: dict[str, _Reserved] = {}

    @property
    def unused(self) -> int:
        """Slots that are held and not used by a stream now."""
        return sum(not reserved.use.locked() for reserved in self._reserved.values())

    @contextlib.contextmanager
    def reserve(self) -> Iterator[str]:
        """Holds a slot; gives the id by which streams use it. One that uses it at the end keeps it until it ends.

        Raises:
            DrainingError: the service is stopping.
            AtCapacityError: all slots are taken.
        """
        self._slots.acquire()
        reserved_id, reserved = secrets.token_hex(16), _Reserved()
        self._reserved[reserved_id] = reserved
        try:
            yield reserved_id
        finally:
            del self._reserved[reserved_id]
            reserved.ended = True
            if not reserved.use.locked():
                self._slots.release()

    @contextlib.asynccontextmanager
    async def stream(self, context: "grpc.aio.ServicerContext[Any, Any]") -> AsyncIterator[None]:
        """The slot of one stream: that of the reservation which its metadata name, or else another one.

        Raises:
            DrainingError: the service is stopping, and no reservation is named.
            AtCapacityError: all slots are taken.
        """
        named = self._reserved.get(_named_by(context))
        if named is None or not await _first_use(named):
            with self._slots.take():
                yield
            return
        try:
            yield
        finally:
            named.use.release()
            if named.ended:
                self._slots.release()


async def hold_until_cancelled() -> None:
    """A Reserve stream after its message: it ends when its client ends it, or the server does."""
    await asyncio.get_running_loop().create_future()


async def _first_use(reserved: _Reserved) -> bool:
    """Waits for the reservation's stream before; False when that goes on, or the reservation has ended meanwhile."""
    try:
        async with asyncio.timeout(OVERLAP_S):
            await reserved.use.acquire()
    except TimeoutError:
        return False
    if reserved.ended:  # its slot was given back with the stream before
        reserved.use.release()
        return False
    return True


def _named_by(context: "grpc.aio.ServicerContext[Any, Any]") -> str:
    for key, value in context.invocation_metadata() or ():
        if key == METADATA_KEY:
            return value if isinstance(value, str) else value.decode(errors="replace")
    return ""
