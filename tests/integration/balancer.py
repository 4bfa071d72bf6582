"""A load balancer with one address: a TCP forwarder whose target can be changed."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from tests.integration.stack import HOST


class Balancer:
    """Forwards each new connection to the port that is the target then."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = 0

    @property
    def page(self) -> str:
        return f"http://{HOST}:{self.port}"

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            there, back = await asyncio.open_connection(HOST, self.target)
            await asyncio.gather(_pipe(reader, back), _pipe(there, writer))
        writer.close()


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


@contextlib.asynccontextmanager
async def balancing(target: int) -> AsyncIterator[Balancer]:
    balancer = Balancer(target)
    server = await asyncio.start_server(balancer.take, HOST, 0)
    balancer.port = server.sockets[0].getsockname()[1]
    try:
        yield balancer
    finally:
        server.close()
