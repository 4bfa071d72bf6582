"""A model at a Triton Inference Server, over tritonclient's asynchronous gRPC streams."""

import asyncio
import contextlib
import logging
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from typing import Any

import grpc
from tritonclient.grpc import InferInput
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from services.common.errors import ServiceError, UnavailableError
from services.common.grpc_server import Check, Server
from services.common.logs import impersonal
from services.common.security import authorities
from services.common.settings import TritonTls
from services.common.telemetry.traces import TRACEPARENT, traceparent
from services.common.triton_wire import (
    CLOSE,
    COMMAND,
    DONE,
    ERROR,
    INFO,
    KEEP,
    LEASE_MS,
    OPEN,
    Array,
    Parameters,
    Tensors,
    error_of,
    other_weights,
    read_json,
    read_text,
)

log = logging.getLogger(__name__)

_CHANNEL_OPTIONS = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.initial_reconnect_backoff_ms", 100),  # a restarted server is found within a second
    ("grpc.max_reconnect_backoff_ms", 1_000),
]
_ANSWER_S = 20.0  # silence on a question that needs no computing: the server hangs
_WATCH_S = 1.0
_CLOSING_S = 5.0  # patience with a server that should end a closed session

Outputs = dict[str, Array]
Replies = asyncio.Queue[Outputs | Exception]


class TritonModel:
    """One model of a server. Belongs to one event loop.

    Args:
        url: `host:port` of Triton's gRPC endpoint.
        model: its name in the model repository.
        tls: PEM files for a connection over TLS; None for a plain one.

    Raises:
        SetupError: a file cannot be used.
    """

    def __init__(self, url: str, model: str, tls: TritonTls | None = None) -> None:
        self.url = url
        self.model = model
        self._client = InferenceServerClient(url, channel_args=_CHANNEL_OPTIONS, **_tls_options(tls))
        self._sessions: set[TritonSession] = set()

    @property
    def sessions(self) -> int:
        """Sessions that are live or being closed."""
        return len(self._sessions)

    async def ready(self) -> bool:
        """Whether the server answers and has loaded the model."""
        try:
            return bool(await self._client.is_model_ready(self.model, client_timeout=_ANSWER_S))
        except InferenceServerException:
            return False

    async def wait_ready(self, patience_s: float) -> None:
        """Waits until `ready`.

        Raises:
            UnavailableError: it was not within `patience_s` seconds.
        """
        until = time.monotonic() + patience_s
        while not await self.ready():
            if time.monotonic() > until:
                raise UnavailableError(f"Triton at {self.url} does not serve {self.model} within {patience_s:g} s")
            await asyncio.sleep(0.2)

    async def ask(self, command: str, inputs: Tensors | None = None, **parameters: str | int | float | bool) -> Outputs:
        """One question outside any session.

        Raises:
            ServiceError: the model's, or UnavailableError.
        """
        session = self.session()
        try:
            async with (
                asyncio.timeout(_ANSWER_S),
                contextlib.aclosing(session.request(command, inputs, parameters)) as replies,
            ):
                async for outputs in replies:
                    return outputs
            raise UnavailableError(f"Triton at {self.url}: {self.model} gave no answer to {command}")
        except TimeoutError as error:
            raise UnavailableError(f"Triton at {self.url} keeps silent") from error
        finally:
            session.close()

    async def info(self) -> dict[str, Any]:
        """What the model says of itself. Errors: see `ask`."""
        return read_json(await self.ask(INFO))

    def check_revision(self, info: Mapping[str, Any], expected: str) -> None:
        """Raises UnavailableError where Triton has other weights than a service was started with."""
        if info["revision"] != expected:
            raise UnavailableError(other_weights(expected, str(info["revision"])))

    def session(self, on_failure: Callable[[Exception], None] | None = None) -> "TritonSession":
        """A session; nothing is sent before its first command.

        Args:
            on_failure: called once when the open session fails by itself, also while no command is under way.
        """
        session = TritonSession(self._client, self.model, on_failure, self._sessions.discard)
        self._sessions.add(session)
        return session

    async def close(self) -> None:
        """Ends all sessions and the connection."""
        sessions = list(self._sessions)
        for session in sessions:
            session.close()
        await asyncio.gather(*(session.ended() for session in sessions))
        await self._client.close()


class TritonSession:
    """One stream to a model. Close it; that is not waited for."""

    def __init__(
        self,
        client: InferenceServerClient,
        model: str,
        on_failure: Callable[[Exception], None] | None,
        on_end: Callable[["TritonSession"], None],
    ) -> None:
        self._client = client
        self._model = model
        self._on_failure = on_failure
        self._on_end = on_end
        self._id = uuid.uuid4().hex
        self._count = 0
        self._requests: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        self._waiting: dict[str, Replies] = {}
        self._failure: Exception | None = None
        self._opened = ""  # the request that lives as long as the session
        self._closed = False
        self._reader: asyncio.Task[None] | None = None
        self._keeper: asyncio.Task[None] | None = None

    async def open(self, parameters: Parameters, inputs: Tensors | None = None) -> Outputs:
        """Opens the session at the model; every later request belongs to it. Returns the model's greeting.

        Raises:
            ServiceError: the model's, or UnavailableError.
        """
        self._opened = self._send(OPEN, inputs, {**parameters, **in_trace()})
        greeting = await self._next(self._waiting[self._opened])
        lease_s = int(greeting[LEASE_MS][0]) / 1000
        self._keeper = asyncio.create_task(self._keep(lease_s), name=f"triton-keep-{self._id}")
        return greeting

    async def request(
        self, command: str, inputs: Tensors | None = None, parameters: Parameters | None = None
    ) -> AsyncGenerator[Outputs, None]:
        """Sends a command and yields its outputs.

        Raises:
            ServiceError: the model's, or UnavailableError.
        """
        number = self._send(command, inputs, parameters or {})
        replies = self._waiting[number]
        try:
            while True:
                outputs = await self._next(replies)
                last = outputs.pop(DONE, None) is not None
                if outputs:
                    yield outputs
                if last:
                    return
        finally:
            self._waiting.pop(number, None)

    async def call(
        self, command: str, inputs: Tensors | None = None, **parameters: str | int | float | bool
    ) -> Outputs:
        """A command that is answered once. Errors: see `request`."""
        answer: Outputs = {}
        async for outputs in self.request(command, inputs, parameters):
            answer = outputs
        return answer

    def close(self) -> None:
        """Ends the session at the model. Commands under way get no more answers."""
        if self._closed:
            return
        self._closed = True
        if self._keeper is not None:
            self._keeper.cancel()
        if self._reader is None or self._reader.done():
            self._on_end(self)
            return
        if self._opened and self._failure is None:
            self._put(CLOSE, {}, {})
        self._requests.put_nowait(None)
        # The reader ends with the stream. Only a server that hangs is left by cancelling: a stream that is cancelled
        # while it ends can stay behind inside Triton (seen with 2.51, which then needs its whole exit timeout to stop).
        timer = asyncio.get_running_loop().call_later(_CLOSING_S, self._reader.cancel)
        self._reader.add_done_callback(lambda _: timer.cancel())

    async def ended(self) -> None:
        """Until a closed session's stream is over."""
        if self._reader is not None:
            await asyncio.wait([self._reader])

    def _send(self, command: str, inputs: Tensors | None, parameters: Parameters) -> str:
        if self._failure is not None:
            raise self._failure
        if self._closed:
            raise UnavailableError("the session is closed")
        if self._reader is None:
            self._reader = asyncio.create_task(self._read(), name=f"triton-{self._model}-{self._id}")
        return self._put(command, inputs or {}, parameters)

    def _put(self, command: str, inputs: Tensors, parameters: Parameters) -> str:
        number = str(self._count)
        self._count += 1
        self._waiting[number] = asyncio.Queue()
        request = {
            "model_name": self._model,
            "inputs": [_tensor(name, array) for name, array in inputs.items()],
            "request_id": number,
            "sequence_id": self._id if command == OPEN or self._opened else 0,
            "parameters": {**parameters, COMMAND: command},
        }
        self._requests.put_nowait(request)
        return number

    async def _next(self, replies: Replies) -> Outputs:
        item = await replies.get()
        if isinstance(item, Exception):
            raise item
        if ERROR in item:
            raise error_of(read_text(item[ERROR]))
        return item

    async def _outgoing(self) -> AsyncIterator[dict[str, Any]]:
        while (request := await self._requests.get()) is not None:
            yield request

    async def _read(self) -> None:
        failure: Exception = UnavailableError("Triton ended the session")
        try:
            stream = self._client.stream_infer(self._outgoing())
            try:
                async for result, error in stream:
                    if error is not None:
                        raise UnavailableError(f"Triton: {error.message()}")
                    self._deliver(result)
            finally:
                stream.cancel()
        except grpc.aio.AioRpcError as error:
            failure = UnavailableError(f"Triton does not answer: {error.code().name}: {error.details()}")
        except ServiceError as error:
            failure = error
        finally:
            self._fail(failure)

    def _deliver(self, result: Any) -> None:
        response = result.get_response()
        outputs = {output.name: result.as_numpy(output.name) for output in response.outputs}
        if response.id == self._opened and ERROR in outputs:
            raise error_of(read_text(outputs[ERROR]))
        if response.id == self._opened and DONE in outputs and not self._closed:
            raise UnavailableError("Triton has ended the session")
        replies = self._waiting.get(response.id)
        if replies is not None:
            replies.put_nowait(outputs)

    def _fail(self, failure: Exception) -> None:
        if self._failure is not None:
            return
        by_itself = self._keeper is not None and not self._closed
        self._failure = failure
        for replies in self._waiting.values():
            replies.put_nowait(failure)
        if self._keeper is not None:
            self._keeper.cancel()
        self._on_end(self)
        if by_itself and self._on_failure is not None:
            self._on_failure(failure)

    async def _keep(self, lease_s: float) -> None:
        """Renews the lease while nothing else is said; a server that does not answer has lost the session."""
        try:
            while True:
                await asyncio.sleep(lease_s / 3)
                async with asyncio.timeout(lease_s):
                    async for _ in self.request(KEEP):
                        pass
        except TimeoutError:
            self._fail(UnavailableError("Triton keeps silent"))
            if self._reader is not None:
                self._reader.cancel()
        except ServiceError as error:
            log.info("a session at Triton has ended", extra={"reason": impersonal(str(error))})


def in_trace() -> dict[str, str]:
    """The parameter that says of whose trace a request is; none where it is of none."""
    told = traceparent()
    return {TRACEPARENT: told} if told else {}


def _tls_options(tls: TritonTls | None) -> dict[str, Any]:
    if tls is None:
        return {}
    authorities(tls.ca, "TRITON_CA")
    files = {"root_certificates": tls.ca, "certificate_chain": tls.certificate, "private_key": tls.key}
    return {"ssl": True, **{name: str(path) for name, path in files.items() if path is not None}}


def _tensor(name: str, array: Array) -> InferInput:
    tensor = InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
    tensor.set_data_from_numpy(array)
    return tensor


@contextlib.asynccontextmanager
async def connected(
    url: str, model: str, patience_s: float, tls: TritonTls | None = None
) -> AsyncIterator[TritonModel]:
    """A model that is ready; its sessions and connection end with the block.

    Raises:
        SetupError: see `TritonModel`.
        UnavailableError: see `TritonModel.wait_ready`.
    """
    found = TritonModel(url, model, tls)
    try:
        await found.wait_ready(patience_s)
        yield found
    finally:
        await found.close()


@contextlib.asynccontextmanager
async def watched(server: Server, check: Check) -> AsyncIterator[None]:
    """Within the block, the server's health says whether `check` passes: clients leave a replica where it fails."""

    async def watch() -> None:
        serving = True
        while True:
            before = serving
            try:
                await check()
                serving = True
            except Exception as error:  # whatever it is, health must say so and the watch go on
                serving = False
                if before:
                    log.warning("Triton is away: %s", error)
            if serving != before:
                await server.set_serving(serving)
            await asyncio.sleep(_WATCH_S)

    task = asyncio.create_task(watch(), name="triton-health")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
