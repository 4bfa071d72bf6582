"""A TCP connection to a service that can be pulled: who uses it sees a replica that dies, hangs or returns."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from tests.integration.stack import HOST

PIECE = 65_536


class Cable:
    """Passes bytes on to a service, both ways.

    Args:
        target: `host:port` of the service.
        at: address and port to listen on; 0 for a free one.
    """

    def __init__(self, target: str, at: str = HOST, port: int = 0) -> None:
        self.target = target
        self._host, _, self._port = target.rpartition(":")
        self._server: asyncio.Server | None = None
        self._links: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._flows = asyncio.Event()
        self._flows.set()
        self._at = at
        self.port = port

    @property
    def address(self) -> str:
        return f"{self._at}:{self.port}"

    async def plug(self) -> None:
        """Opens the port: at first a free one, later the same again."""
        self._flows.set()
        self._server = await asyncio.start_server(self._accept, self._at, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        """All connections are reset and new ones refused, as when the process is killed."""
        if self._server is not None:
            self._server.close()
        self._server = None
        for writer in list(self._writers):
            writer.transport.abort()
        links = list(self._links)
        for link in links:
            link.cancel()
        await asyncio.gather(*links, return_exceptions=True)

    def freeze(self) -> None:
        """Nothing passes and nothing is refused, as when the process is stopped or the network drops all packets."""
        self._flows.clear()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = asyncio.create_task(self._link(reader, writer), name="cable")
        self._links.add(link)
        link.add_done_callback(self._links.discard)

    async def _link(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        onward: asyncio.StreamWriter | None = None
        self._writers.add(writer)
        try:
            with contextlib.suppress(OSError):
                back, onward = await asyncio.open_connection(self._host, int(self._port))
                self._writers.add(onward)
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._pass(reader, onward))
                    group.create_task(self._pass(back, writer))
        finally:
            for end in filter(None, (writer, onward)):
                self._writers.discard(end)
                end.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while piece := await reader.read(PIECE):
                await self._flows.wait()
                writer.write(piece)
                await writer.drain()
            writer.transport.abort()


@contextlib.asynccontextmanager
async def two_cables(target: str) -> AsyncIterator[tuple[Cable, Cable]]:
    """One service seen as two replicas."""
    cables = Cable(target), Cable(target)
    try:
        for cable in cables:
            await cable.plug()
        yield cables
    finally:
        for cable in cables:
            await cable.cut()
