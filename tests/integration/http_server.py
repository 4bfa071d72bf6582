"""A real HTTP/1.1 server on loopback that answers as a test tells it, byte by byte if need be."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlsplit

Answer = Callable[[asyncio.StreamWriter], Coroutine[Any, Any, None]]


@dataclass(frozen=True)
class Request:
    """As it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.path).query, keep_blank_values=True))


@dataclass
class HttpServer:
    """Answers the n-th request with the n-th answer, and all later ones with the last."""

    port: int
    answers: list[Answer]
    requests: list[Request] = field(default_factory=list)
    broken_off: int = 0  # connections that the client closed before its answer was complete

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def requested(self, count: int, timeout_s: float = 60.0) -> list[Request]:
        """Waits until so many requests have come."""
        async with asyncio.timeout(timeout_s):
            while len(self.requests) < count:
                await asyncio.sleep(0.02)
        return self.requests

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                first, *lines = head.strip().split("\r\n")
                headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                method, path, _ = first.split(" ")
                self.requests.append(Request(method, path, headers, body))
                answer = self.answers[min(len(self.requests), len(self.answers)) - 1]
                answering = asyncio.create_task(answer(writer))
                gone = asyncio.create_task(reader.read(1))
                done, _ = await asyncio.wait({answering, gone}, return_when=asyncio.FIRST_COMPLETED)
                if answering not in done:
                    self.broken_off += 1
                    answering.cancel()
                gone.cancel()
                await asyncio.gather(answering, gone, return_exceptions=True)
                break
        writer.close()


def status(code: int, content: object = None, kind: str = "application/json", **headers: str) -> Answer:
    """A whole response."""

    async def answer(writer: asyncio.StreamWriter) -> None:
        body = content if isinstance(content, bytes) else b"" if content is None else json.dumps(content).encode()
        lines = [f"HTTP/1.1 {code} Status", f"Content-Type: {kind}", f"Content-Length: {len(body)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        writer.write("\r\n".join([*lines, "Connection: close", "", ""]).encode() + body)
        await writer.drain()

    return answer


async def silent(_: asyncio.StreamWriter) -> None:
    """Takes the request and never answers."""
    await asyncio.Event().wait()


async def dripping(writer: asyncio.StreamWriter) -> None:
    """Answers at once, and sends a body that never ends, a byte at a time: no single read takes long."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n")
    while True:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.05)


async def flooding(writer: asyncio.StreamWriter) -> None:
    """Sends without an end and as fast as it can."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n")
    while True:
        writer.write(b" " * 4096)
        await writer.drain()


async def hanging_up(writer: asyncio.StreamWriter) -> None:
    """Closes the connection instead of an answer."""
    writer.close()


@contextlib.asynccontextmanager
async def http_server(*answers: Answer, port: int = 0) -> AsyncIterator[HttpServer]:
    """A running server, on a free port unless told otherwise."""
    running = HttpServer(0, list(answers))
    server = await asyncio.start_server(running.serve, "127.0.0.1", port)
    running.port = server.sockets[0].getsockname()[1]
    try:
        yield running
    finally:
        server.close()
