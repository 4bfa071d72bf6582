"""One way to run a gRPC service: errors as status codes, health, reflection, slots, and a clean stop on a signal."""

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from services.common.errors import AtCapacityError, DrainingError, InvalidInputError, ServiceError
from services.common.health import SERVICE_NAME, Health
from services.common.security import GrpcSecurity, TokenInterceptor

log = logging.getLogger(__name__)

MAX_MESSAGE_BYTES = 8 * 1024 * 1024
# Up to here a message is read in order to be refused in words; gRPC itself drops a larger one, as RESOURCE_EXHAUSTED.
_MAX_READ_BYTES = 8 * MAX_MESSAGE_BYTES
_LAST_CALLS_S = 1.0  # for calls that hold no slot, such as Info, and for the last words of streams

# A taken port is told as an error; gRPC's own line about it on stderr says it a second time. Read when gRPC starts.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")


class Slots:
    """Counts the live streams of a service and refuses the one too many.

    Not thread-safe: used from one event loop.
    """

    def __init__(self, capacity: int, what: str) -> None:
        self.capacity = capacity
        self.active = 0
        self.draining = False
        self._what = what
        self._idle = asyncio.Event()
        self._idle.set()
        self._busy = asyncio.Event()

    @contextlib.contextmanager
    def take(self) -> Iterator[None]:
        """Holds one slot. Raises: see `acquire`."""
        self.acquire()
        try:
            yield
        finally:
            self.release()

    def acquire(self) -> None:
        """Takes one slot, for which `release` is due.

        Raises:
            DrainingError: the service is stopping.
            AtCapacityError: all slots are taken.
        """
        if self.draining:
            raise DrainingError("the service is draining; use another replica")
        if self.active >= self.capacity:
            raise AtCapacityError(f"all {self.capacity} {self._what} are taken; try again later")
        self.active += 1
        self._idle.clear()
        self._busy.set()

    def release(self) -> None:
        """Gives back one slot."""
        self.active -= 1
        if not self.active:
            self._idle.set()
            self._busy.clear()

    async def wait_idle(self) -> None:
        """Returns once no slot is taken."""
        await self._idle.wait()

    async def wait_busy(self) -> None:
        """Returns once a slot is taken."""
        await self._busy.wait()


Check = Callable[[], Awaitable[None]]


async def answers() -> None:
    """The check of a backend that is always there."""


class ErrorInterceptor(grpc.aio.ServerInterceptor):
    """Turns `ServiceError` into its status code, and anything unforeseen into INTERNAL without its details.

    A message that is too long, or is not of the method's type, is INVALID_ARGUMENT.
    """

    async def intercept_service(
        self, continuation: Callable[[grpc.HandlerCallDetails], Any], details: grpc.HandlerCallDetails
    ) -> Any:
        """Wraps the handler, whichever of the four kinds it is."""
        handler = await continuation(details)
        if handler is None:
            return None
        streams = handler.response_streaming
        inner = (
            (handler.stream_stream if streams else handler.stream_unary)
            if handler.request_streaming
            else (handler.unary_stream if streams else handler.unary_unary)
        )
        method = getattr(details, "method", "?")
        accept = _accept_each if handler.request_streaming else _accept

        async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
            async with _as_status(context, method):
                async for response in inner(accept(request), context):
                    yield response

        async def unary(request: Any, context: Any) -> Any:
            async with _as_status(context, method):
                return await inner(accept(request), context)

        make: Any = {
            (False, False): grpc.unary_unary_rpc_method_handler,
            (False, True): grpc.unary_stream_rpc_method_handler,
            (True, False): grpc.stream_unary_rpc_method_handler,
            (True, True): grpc.stream_stream_rpc_method_handler,
        }[(handler.request_streaming, streams)]
        return make(
            stream if streams else unary,
            request_deserializer=_checked(handler.request_deserializer),
            response_serializer=handler.response_serializer,
        )


def _checked(deserialize: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """Deserialises; what cannot be becomes an `InvalidInputError` in the message's place, for `_accept` to raise.

    Raised at once, it would reach the client as INTERNAL and without the reason.
    """

    def read(data: bytes) -> Any:
        if len(data) > MAX_MESSAGE_BYTES:
            return InvalidInputError(
                f"a message of {len(data)} bytes is too long; at most {MAX_MESSAGE_BYTES} are allowed"
            )
        try:
            return deserialize(data)
        except DecodeError:
            return InvalidInputError(f"a message of {len(data)} bytes cannot be read as this method's request")

    return read


def _accept(request: Any) -> Any:
    if isinstance(request, InvalidInputError):
        raise request
    return request


async def _accept_each(requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for request in requests:
        yield _accept(request)


@contextlib.asynccontextmanager
async def _as_status(context: grpc.aio.ServicerContext[Any, Any], method: str) -> AsyncIterator[None]:
    try:
        yield
    except ServiceError as error:
        await context.abort(error.code, str(error))
    except (grpc.aio.AbortError, asyncio.CancelledError, GeneratorExit):
        raise
    except Exception:
        log.exception("unexpected failure", extra={"method": method})
        await context.abort(grpc.StatusCode.INTERNAL, "unexpected failure; see the service's log")


class Server:
    """A gRPC server of one service on one address.

    Args:
        service: full name, e.g. `trunkline.v1.VoiceLM`.
        register: adds the servicer to the server.
        address: `host:port`; port 0 picks a free one, see `port` after `start`.
        slots: the service's slots; stopped from taking more when the server drains.
        security: of the port; None: from the environment.

    Raises:
        SetupError: the port cannot be secured as told, or would be open to the network.
    """

    def __init__(
        self,
        service: str,
        register: Callable[[grpc.aio.Server], None],
        address: str,
        slots: Slots,
        security: GrpcSecurity | None = None,
    ) -> None:
        security = security or GrpcSecurity.read()
        security.check_exposure(address)
        self._credentials = security.server_credentials()
        tokens = security.tokens()
        guards: list[grpc.aio.ServerInterceptor] = [] if tokens is None else [TokenInterceptor(tokens)]
        self._service = service
        self._address = address
        self.slots = slots
        options = [
            ("grpc.so_reuseport", 0),  # a taken port must be an error, not a silent second listener
            ("grpc.max_receive_message_length", _MAX_READ_BYTES),
            ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ]
        self._server = grpc.aio.server(interceptors=[*guards, ErrorInterceptor()], options=options)
        register(self._server)
        self._health = Health()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection((service, SERVICE_NAME, reflection.SERVICE_NAME), self._server)
        self.port = 0

    async def start(self) -> int:
        """Opens the port and reports SERVING. Returns the port.

        Raises:
            OSError: the address cannot be listened on.
        """
        try:
            if self._credentials is None:
                self.port = self._server.add_insecure_port(self._address)
            else:
                self.port = self._server.add_secure_port(self._address, self._credentials)
        except RuntimeError as error:
            raise OSError(f"cannot listen on {self._address}: is the port taken?") from error
        await self._server.start()
        await self.set_serving(True)
        return self.port

    async def set_serving(self, serving: bool) -> None:
        """What the health service says. A draining server stays NOT_SERVING."""
        status = health_pb2.HealthCheckResponse
        for name in ("", self._service):
            await self._health.set(name, status.SERVING if serving else status.NOT_SERVING)

    async def drain(self, grace_s: float) -> None:
        """Takes no new streams, lets the live ones finish for `grace_s` seconds, then stops."""
        self.slots.draining = True
        await self._health.enter_graceful_shutdown()
        # A call that comes in while gRPC itself stops is CANCELLED, which no client can tell from its own doing. So the
        # servicer refuses new streams with UNAVAILABLE for as long as old ones live, and gRPC stops after them.
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.slots.wait_idle(), grace_s)
        await self._server.stop(min(grace_s, _LAST_CALLS_S))


async def serve_until_signal(server: Server, name: str, grace_s: float) -> None:
    """Runs `server` until SIGTERM or SIGINT, then drains it. Prints the address once it serves."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    port = await server.start()
    print(f"{name}: serving on port {port}", flush=True)
    await stop.wait()
    await server.drain(grace_s)
