"""Ends what aiortc leaves running when a peer connection is closed while it connects."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from aiortc import RTCPeerConnection

CONNECT = "_RTCPeerConnection__connect"


class Connecting:
    """The connecting of one peer connection: ICE, then DTLS, then its senders and receivers are started.

    aiortc runs it in tasks of its own, which `close` leaves alone. A handshake that ends just then starts a sender and
    a receiver that nothing stops any more, so they, their connection and all they hold stay for ever; one that fails
    raises in a task that nobody waits for. `stop` before `close` prevents both.
    """

    def __init__(self, peer: RTCPeerConnection) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._connect: Callable[[], Awaitable[None]] = getattr(peer, CONNECT)
        setattr(peer, CONNECT, self._run)

    async def _run(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._connect()
        finally:
            self._tasks.discard(task)

    async def stop(self) -> None:
        """Ends it; what is connected stays so."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
