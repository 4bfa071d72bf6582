"""How the gRPC ports are secured: TLS, with client certificates or without, and a shared token. docs/security.md."""

import ipaddress
import logging
import re
import secrets
import ssl
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Generic, TypeVar

import grpc
from pydantic import SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.common.errors import SetupError

log = logging.getLogger(__name__)

PREFIX = "TRUNKLINE_GRPC_"
AUTHORIZATION = "authorization"
_SCHEME = "Bearer "  # RFC 6750
_TOKEN = re.compile(r"[\x21-\x7e]{16,}")  # what a header can carry, and nobody guesses
_OPEN_TO_PROBES = "/grpc.health.v1.Health/"

T = TypeVar("T")


class GrpcSecurity(BaseSettings):
    """What every process reads from the same variables, `TRUNKLINE_GRPC_CERTIFICATE` and so on.

    Attributes:
        certificate: PEM chain that this process shows: as a server to clients, as a client to servers that ask.
        key: its PEM private key.
        client_ca: PEM authorities of clients; a server that has it takes only clients with a certificate of theirs.
        ca: PEM authorities of servers; a client that has it speaks TLS.
        token: the shared secret that clients send and servers want.
        token_file: the same from a file; each line is one that a server takes, the first is what a client sends.
        trust_network: a port beyond loopback may be open to everybody who reaches it.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", env_ignore_empty=True)

    certificate: Path | None = None
    key: Path | None = None
    client_ca: Path | None = None
    ca: Path | None = None
    token: SecretStr = SecretStr("")
    token_file: Path | None = None
    trust_network: bool = False

    @classmethod
    def read(cls) -> "GrpcSecurity":
        """From the environment.

        Raises:
            SetupError: a variable is unusable; names it.
        """
        try:
            settings = cls()
        except ValidationError as error:
            wrong = error.errors()[0]
            raise SetupError(f"{PREFIX}{str(wrong['loc'][0]).upper()}: {wrong['msg']}") from None
        if (settings.certificate is None) != (settings.key is None):
            raise SetupError(f"{PREFIX}CERTIFICATE and {PREFIX}KEY belong together")
        if settings.client_ca is not None and settings.certificate is None:
            raise SetupError(f"{PREFIX}CLIENT_CA needs {PREFIX}CERTIFICATE: only TLS can ask for a client's")
        if settings.token_file is not None and settings.token.get_secret_value():
            raise SetupError(f"set {PREFIX}TOKEN or {PREFIX}TOKEN_FILE, not both")
        return settings

    def tokens(self) -> "Reread[tuple[str, ...]] | None":
        """The tokens that are good now; None where none is wanted.

        Raises:
            SetupError: one is too short, or the file cannot be read.
        """
        if self.token_file is not None:
            return Reread([self.token_file], self._read_tokens)
        given = self.token.get_secret_value()
        if not given:
            return None
        tokens = _checked([given], f"{PREFIX}TOKEN")
        return Reread([], lambda: tokens)

    def _read_tokens(self) -> tuple[str, ...]:
        assert self.token_file is not None
        where = f"{PREFIX}TOKEN_FILE: {self.token_file}"
        return _checked(read(self.token_file, where).decode(errors="replace").split(), where)

    def server_credentials(self) -> grpc.ServerCredentials | None:
        """TLS of a server; new files are used from the next connection on. None for a plain port.

        Raises:
            SetupError: a file cannot be used.
        """
        if self.certificate is None or self.key is None:
            return None
        paths = [self.certificate, self.key, *([self.client_ca] if self.client_ca else [])]
        configuration = Reread(paths, self._server_configuration)
        return grpc.dynamic_ssl_server_credentials(
            configuration.get(), configuration.get, require_client_authentication=self.client_ca is not None
        )

    def _server_configuration(self) -> Any:
        chain, key = self._pair()
        roots = authorities(self.client_ca, f"{PREFIX}CLIENT_CA") if self.client_ca else None
        return grpc.ssl_server_certificate_configuration([(key, chain)], roots)

    def channel_credentials(self) -> "Reread[grpc.ChannelCredentials] | None":
        """TLS of a client; None for plain connections.

        Raises:
            SetupError: a file cannot be used.
        """
        if self.ca is None:
            return None
        paths = [path for path in (self.ca, self.certificate, self.key) if path is not None]
        return Reread(paths, self._channel_credentials)

    def _channel_credentials(self) -> grpc.ChannelCredentials:
        assert self.ca is not None
        chain, key = self._pair() if self.certificate else (None, None)
        return grpc.ssl_channel_credentials(authorities(self.ca, f"{PREFIX}CA"), key, chain)

    def _pair(self) -> tuple[bytes, bytes]:
        """Chain and key, which are checked to belong together: gRPC itself only fails each handshake."""
        assert self.certificate is not None
        assert self.key is not None
        chain, key = (read(path, f"{PREFIX}CERTIFICATE, _KEY: {path}") for path in (self.certificate, self.key))
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self.certificate, self.key)
        except (ssl.SSLError, OSError) as error:
            why = f"{PREFIX}CERTIFICATE {self.certificate} with {PREFIX}KEY {self.key} cannot be used: {error}"
            raise SetupError(why) from error
        return chain, key

    def check_exposure(self, address: str) -> None:
        """Whether a server may listen on `address` with these settings.

        Raises:
            SetupError: it would be open to the network.
        """
        if _is_loopback(address) or self.trust_network:
            return
        has_token = bool(self.token_file or self.token.get_secret_value())
        if self.client_ca is None and not has_token:
            raise SetupError(
                f"gRPC on {address} would be open to the network: set {PREFIX}CERTIFICATE, {PREFIX}KEY and "
                f"{PREFIX}CLIENT_CA, or {PREFIX}TOKEN_FILE; where a service mesh or a closed network guards the port, "
                f"set {PREFIX}TRUST_NETWORK=true"
            )
        if self.certificate is None:
            log.warning("gRPC beyond loopback without TLS: the token can be read on the way", extra={"listen": address})


class Reread(Generic[T]):
    """A value that is made of files, and made anew when they change. A bad change is logged, and the old value stays.

    Args:
        paths: the files.
        make: raises SetupError where they cannot be used.

    Raises:
        SetupError: they cannot be used now.
    """

    def __init__(self, paths: Iterable[Path], make: Callable[[], T]) -> None:
        self._paths = tuple(paths)
        self._make = make
        self._seen = self._state()
        self._value = make()

    def get(self) -> T:
        """The value; the same object for as long as the files stay. From any thread."""
        state = self._state()
        if state != self._seen:
            self._seen = state
            try:
                self._value = self._make()
                log.info("security files were read again")
            except SetupError as error:
                log.error("changed security files are not usable, the old ones stay in use: %s", error)
        return self._value

    def _state(self) -> tuple[tuple[int, int, int] | None, ...]:
        return tuple(_state(path) for path in self._paths)


def _state(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()  # through symbolic links: Kubernetes swaps one to change all files of a volume at once
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size


class TokenInterceptor(grpc.aio.ServerInterceptor):
    """Lets in only who sends one of the tokens; health can be asked without. Others: UNAUTHENTICATED."""

    def __init__(self, tokens: Reread[tuple[str, ...]]) -> None:
        self._tokens = tokens

    async def intercept_service(
        self, continuation: Callable[[grpc.HandlerCallDetails], Any], details: grpc.HandlerCallDetails
    ) -> Any:
        """Before any message is read."""
        if details.method.startswith(_OPEN_TO_PROBES) or self._is_good(details.invocation_metadata or ()):
            return await continuation(details)
        # Whatever the method is: a handler of this kind can answer before the client has sent anything.
        return grpc.stream_stream_rpc_method_handler(_refuse)

    def _is_good(self, metadata: Iterable[tuple[str, str | bytes]]) -> bool:
        sent = [value for key, value in metadata if key == AUTHORIZATION and isinstance(value, str)]
        if len(sent) != 1 or not sent[0].startswith(_SCHEME):
            return False
        token = sent[0].removeprefix(_SCHEME).encode()
        # all are compared: the time that it takes tells nothing
        return sum(secrets.compare_digest(token, good.encode()) for good in self._tokens.get()) > 0


async def _refuse(requests: object, context: grpc.aio.ServicerContext[Any, Any]) -> None:
    await context.abort(grpc.StatusCode.UNAUTHENTICATED, "a token is needed: authorization: Bearer ...")


def bearer(tokens: Reread[tuple[str, ...]]) -> tuple[str, str]:
    """The header that a client sends."""
    return AUTHORIZATION, _SCHEME + tokens.get()[0]


def read(path: Path, where: str) -> bytes:
    """A file's bytes; SetupError where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise SetupError(f"{where}: cannot be read: {error.strerror}") from error


def authorities(path: Path, variable: str) -> bytes:
    """A file of PEM certificates; SetupError, which names the variable, where there is none in it."""
    try:
        ssl.create_default_context(cafile=path)
    except (ssl.SSLError, OSError) as error:
        raise SetupError(f"{variable}: {path} is no file of PEM certificates: {error}") from error
    return read(path, f"{variable}: {path}")


def _checked(tokens: list[str], where: str) -> tuple[str, ...]:
    if not tokens or not all(_TOKEN.fullmatch(token) for token in tokens):
        raise SetupError(f"{where}: a token has at least 16 characters, all of them printable ASCII")
    return tuple(tokens)


def _is_loopback(address: str) -> bool:
    host = address.rpartition(":")[0].strip("[]")
    if address.startswith("unix:") or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
