"""Messages over a stream socket: each as MessagePack, after its length in four bytes, highest first."""

import asyncio
import struct
from collections.abc import AsyncIterator
from typing import Any, Generic, TypeVar

import msgspec

from services.agent.legs.sip_workers.messages import Message

LENGTH = struct.Struct("!I")
LONGEST = 1 << 20  # bytes; the longest honest message is seconds of PCM

In = TypeVar("In")


class ConnectionBrokenError(Exception):
    """What came is no message."""


class Connection(Generic[In]):
    """One end.

    Args:
        incoming: the type, a union of messages, of what the other end sends.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, incoming: Any) -> None:
        self._reader = reader
        self._writer = writer
        self._decoder: msgspec.msgpack.Decoder[In] = msgspec.msgpack.Decoder(incoming)
        self._encoder = msgspec.msgpack.Encoder()

    @property
    def backlog(self) -> int:
        """Bytes that the other end has not taken yet, beyond what the socket holds."""
        return self._writer.transport.get_write_buffer_size()

    def send(self, message: Message) -> None:
        """Sends soon; never waits. After `close`, or when the other end is gone, it is dropped."""
        if self._writer.is_closing():
            return
        body = self._encoder.encode(message)
        self._writer.write(LENGTH.pack(len(body)) + body)

    async def messages(self) -> AsyncIterator[In]:
        """All messages until the other end closes or dies.

        Raises:
            ConnectionBrokenError: the other end sent something else.
        """
        while True:
            try:
                (length,) = LENGTH.unpack(await self._reader.readexactly(LENGTH.size))
                if length > LONGEST:
                    raise ConnectionBrokenError(f"a message of {length} bytes (at most {LONGEST})")
                body = await self._reader.readexactly(length)
            except (asyncio.IncompleteReadError, ConnectionError):
                return
            try:
                message = self._decoder.decode(body)
            except msgspec.MsgspecError as error:
                raise ConnectionBrokenError(str(error)) from error
            yield message

    def close(self) -> None:
        """Sends what is queued, then closes: the other end sees the end of the stream."""
        self._writer.close()
