"""What every service gets from the shared server: status codes, slots, health, reflection, a taken port, draining."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from services.common.errors import InvalidInputError
from services.common.grpc_server import Server, Slots
from services.common.reservations import Reservations, hold_until_cancelled
from trunkline.v1 import tokenizer_pb2 as pb
from trunkline.v1 import tokenizer_pb2_grpc as rpc

SERVICE = "trunkline.v1.SpeechTokenizer"


class Holding(rpc.SpeechTokenizerServicer):
    """Holds a slot until the client half-closes; audio of one byte is invalid, of two a bug."""

    def __init__(self, slots: Slots) -> None:
        self.slots = slots
        self.reservations = Reservations(slots)

    async def Info(self, request: pb.SpeechTokenizerInfoRequest, context: Any) -> pb.SpeechTokenizerInfoResponse:
        return pb.SpeechTokenizerInfoResponse(capacity=self.slots.capacity, active=self.slots.active)

    async def Tokenize(
        self, requests: AsyncIterator[pb.TokenizeRequest], context: Any
    ) -> AsyncIterator[pb.TokenizeResponse]:
        async with self.reservations.stream(context):
            yield pb.TokenizeResponse()
            async for request in requests:
                if len(request.pcm) == 1:
                    raise InvalidInputError("one byte is no sample")
                if len(request.pcm) == 2:
                    raise ZeroDivisionError("a secret")

    async def Reserve(
        self, request: pb.SpeechTokenizerReserveRequest, context: Any
    ) -> AsyncIterator[pb.SpeechTokenizerReserveResponse]:
        with self.reservations.reserve() as reservation_id:
            yield pb.SpeechTokenizerReserveResponse(reservation_id=reservation_id)
            await hold_until_cancelled()


class Harness:
    def __init__(self, capacity: int = 1) -> None:
        self.slots = Slots(capacity, "streams")
        servicer = Holding(self.slots)
        self.server = Server(
            SERVICE,
            lambda server: rpc.add_SpeechTokenizerServicer_to_server(servicer, server),
            "127.0.0.1:0",
            self.slots,
        )

    async def __aenter__(self) -> "Harness":
        port = await self.server.start()
        self.channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
        self.stub: Any = rpc.SpeechTokenizerStub(self.channel)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.channel.close()
        await self.server.drain(0)

    async def until_active(self, count: int) -> None:
        while self.slots.active != count:
            await asyncio.sleep(0.01)


async def one(pcm: bytes) -> AsyncIterator[pb.TokenizeRequest]:
    yield pb.TokenizeRequest(pcm=pcm)


async def test_errors_become_status_codes() -> None:
    async with Harness() as harness:
        with pytest.raises(grpc.aio.AioRpcError) as bad:
            [_ async for _ in harness.stub.Tokenize(one(b"1"))]
        assert bad.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert bad.value.details() == "one byte is no sample"
        with pytest.raises(grpc.aio.AioRpcError) as bug:
            [_ async for _ in harness.stub.Tokenize(one(b"12"))]
        assert bug.value.code() is grpc.StatusCode.INTERNAL
        assert "secret" not in (bug.value.details() or "")
        await harness.until_active(0)


async def test_a_message_too_long_is_refused_in_words() -> None:
    async with Harness() as harness:
        assert len([_ async for _ in harness.stub.Tokenize(one(bytes(8_000_000)))]) == 1
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            [_ async for _ in harness.stub.Tokenize(one(bytes(10_000_000)))]
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert refused.value.details() == "a message of 10000005 bytes is too long; at most 8388608 are allowed"
        await harness.until_active(0)


async def test_bytes_that_are_no_request_are_invalid() -> None:
    async with Harness() as harness:
        stream: Any = harness.channel.stream_stream(f"/{SERVICE}/Tokenize")
        single: Any = harness.channel.unary_unary(f"/{SERVICE}/Info")
        with pytest.raises(grpc.aio.AioRpcError) as in_stream:
            [_ async for _ in stream(iter([b"no protobuf"]))]
        with pytest.raises(grpc.aio.AioRpcError) as alone:
            await single(b"no protobuf")
        for refused in (in_stream.value, alone.value):
            assert refused.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert refused.details() == "a message of 11 bytes cannot be read as this method's request"
        await harness.until_active(0)


async def test_one_stream_too_many_is_refused_and_a_cancelled_one_frees_its_slot() -> None:
    async with Harness(capacity=1) as harness:
        held = harness.stub.Tokenize()
        await held.read()
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            [_ async for _ in harness.stub.Tokenize(one(b"1"))]
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        held.cancel()
        await harness.until_active(0)
        assert len([_ async for _ in harness.stub.Tokenize(one(b"1234"))]) == 1


async def test_health_and_reflection_name_the_service() -> None:
    async with Harness() as harness:
        health: Any = health_pb2_grpc.HealthStub(harness.channel)
        status = await health.Check(health_pb2.HealthCheckRequest(service=SERVICE))
        assert status.status == health_pb2.HealthCheckResponse.SERVING
        reflection: Any = reflection_pb2_grpc.ServerReflectionStub(harness.channel)
        call = reflection.ServerReflectionInfo(
            iter([reflection_pb2.ServerReflectionRequest(list_services="")])  # a unary-like use of the stream
        )
        answer = await call.read()
        assert SERVICE in [service.name for service in answer.list_services_response.service]


async def test_a_draining_server_takes_no_new_stream_and_lets_the_live_one_end() -> None:
    async with Harness(capacity=2) as harness:
        held = harness.stub.Tokenize()
        await held.read()
        draining = asyncio.create_task(harness.server.drain(30))
        while not harness.slots.draining:
            await asyncio.sleep(0.01)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            [_ async for _ in harness.stub.Tokenize(one(b"1"))]
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        await held.done_writing()
        assert await held.read() is grpc.aio.EOF
        await draining
        assert (await held.code()) is grpc.StatusCode.OK


async def test_a_taken_port_is_an_error() -> None:
    async with Harness() as first:
        second = Harness()
        second.server = Server(SERVICE, lambda server: None, f"127.0.0.1:{first.server.port}", second.slots)
        with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{first.server.port}"):
            await second.server.start()
