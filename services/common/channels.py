"""The one place that makes gRPC channels: plain, or with TLS and token as docs/security.md says."""

from collections.abc import Callable, Sequence
from typing import Any

import grpc

from services.common.security import GrpcSecurity, Reread, bearer

Option = tuple[str, str | int]


def channel(
    address: str,
    options: Sequence[Option] = (),
    *,
    server_name: str = "",
    security: GrpcSecurity | None = None,
) -> grpc.aio.Channel:
    """A channel to a service of ours.

    Args:
        address: `host:port`.
        options: of gRPC's.
        server_name: name that the server's certificate must bear, where that is not the address's host: for one
            replica of a service, found by its IP address.
        security: None: from the environment.

    Raises:
        SetupError: the settings cannot be used.
    """
    security = security or GrpcSecurity.read()
    credentials, tokens = security.channel_credentials(), security.tokens()
    if server_name and credentials is not None:
        options = [*options, ("grpc.ssl_target_name_override", server_name)]
    if credentials is None and tokens is None:
        return grpc.aio.insecure_channel(address, options=options)
    return _SecuredChannel(address, options, credentials, tokens)


class _SecuredChannel(grpc.aio.Channel):
    """Sends the token with each call, and connects anew for new calls when the certificates' files have changed.

    gRPC's own channels keep the credentials that they were made with, and carry tokens over TLS only.
    """

    def __init__(
        self,
        address: str,
        options: Sequence[Option],
        credentials: Reread[grpc.ChannelCredentials] | None,
        tokens: Reread[tuple[str, ...]] | None,
    ) -> None:
        self._address = address
        self._options = list(options)
        self._credentials = credentials
        self._tokens = tokens
        self._used: grpc.ChannelCredentials | None = None
        self._old: list[grpc.aio.Channel] = []  # calls may live on them; without any they go idle by themselves
        self._inner = self._connect()

    def _connect(self) -> grpc.aio.Channel:
        if self._credentials is None:
            return grpc.aio.insecure_channel(self._address, options=self._options)
        self._used = self._credentials.get()
        return grpc.aio.secure_channel(self._address, self._used, options=self._options)

    def _current(self) -> grpc.aio.Channel:
        if self._credentials is not None and self._credentials.get() is not self._used:
            self._old.append(self._inner)
            self._inner = self._connect()
        return self._inner

    def _method(self, kind: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Callable[..., Any]:
        made: list[Any] = [None, None]  # a channel, and the method on it

        def call(*call_args: Any, metadata: Any = None, **call_kwargs: Any) -> Any:
            inner = self._current()
            if made[0] is not inner:
                made[:] = inner, getattr(inner, kind)(*args, **kwargs)
            token = () if self._tokens is None else (bearer(self._tokens),)
            return made[1](*call_args, metadata=(*(metadata or ()), *token), **call_kwargs)

        return call

    def unary_unary(self, *args: Any, **kwargs: Any) -> Any:
        """See `grpc.aio.Channel`."""
        return self._method("unary_unary", args, kwargs)

    def unary_stream(self, *args: Any, **kwargs: Any) -> Any:
        """See `grpc.aio.Channel`."""
        return self._method("unary_stream", args, kwargs)

    def stream_unary(self, *args: Any, **kwargs: Any) -> Any:
        """See `grpc.aio.Channel`."""
        return self._method("stream_unary", args, kwargs)

    def stream_stream(self, *args: Any, **kwargs: Any) -> Any:
        """See `grpc.aio.Channel`."""
        return self._method("stream_stream", args, kwargs)

    async def close(self, grace: float | None = None) -> None:
        """See `grpc.aio.Channel`."""
        for inner in (*self._old, self._inner):
            await inner.close(grace)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """See `grpc.aio.Channel`."""
        return self._inner.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """See `grpc.aio.Channel`."""
        await self._inner.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        """See `grpc.aio.Channel`."""
        await self._inner.channel_ready()

    async def __aenter__(self) -> "_SecuredChannel":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
