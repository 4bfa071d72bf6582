"""A conversation with the language model service, spoken in commands."""

from collections.abc import Sequence
from typing import Any

import grpc

from tests.triton.twins import Running
from trunkline.v1 import lm_pb2


class Talk:
    """One stream. `tokens` are the session's ids as the events gave them."""

    def __init__(self, service: Running) -> None:
        self.call = service.stub.Converse()
        self.tokens: list[int] = []

    async def send(self, **command: Any) -> None:
        await self.call.write(lm_pb2.ConverseRequest(**command))

    async def receive(self) -> lm_pb2.ConverseResponse:
        response = await self.call.read()
        if response is grpc.aio.EOF:
            raise AssertionError(f"stream ended: {await self.call.code()} {await self.call.details()}")
        assert isinstance(response, lm_pb2.ConverseResponse)
        event = getattr(response, str(response.WhichOneof("event")))
        if response.HasField("appended") or response.HasField("generated"):
            self.tokens += event.tokens
        if response.HasField("truncated"):
            del self.tokens[event.length :]
        assert event.length == len(self.tokens)
        return response

    async def open(self, tokens: Sequence[int] = ()) -> "Talk":
        self.tokens = list(tokens)
        await self.send(open=lm_pb2.OpenSession(session_id="test", tokens=tokens))
        assert (await self.receive()).HasField("opened")
        return self

    async def append(self, **part: Any) -> None:
        await self.send(append=lm_pb2.Append(**part))
        assert (await self.receive()).HasField("appended")

    async def prompted(self) -> "Talk":
        await self.open()
        await self.append(system="You answer the phone of a parcel company.")
        await self.append(user_text="what are your opening hours")
        return self

    async def rest(self) -> tuple[str, lm_pb2.Finished]:
        """The text of an answer under way, and its end."""
        text = ""
        while (response := await self.receive()).HasField("generated"):
            text += response.generated.text
        return text, response.finished

    async def generate(self, **settings: Any) -> tuple[str, lm_pb2.Finished]:
        await self.send(generate=lm_pb2.Generate(**settings))
        return await self.rest()

    async def status(self) -> tuple[grpc.StatusCode, str]:
        """Reads to the end of the stream."""
        try:
            while await self.call.read() is not grpc.aio.EOF:
                pass
        except grpc.aio.AioRpcError:
            pass
        return await self.call.code(), await self.call.details()
