"""The connection to Redis, of whichever kind, and the one way to change several keys at once."""

import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import redis.asyncio as redis
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import RedisError

from services.agent.state.address import Address, Kind, StateError, parse
from services.agent.state.keys import Keys
from services.agent.state.settings import StateSettings, secret

AWAY = (RedisError, OSError)
"""What a command raises when Redis is away, or refuses it. A command that raised may have been carried out."""

TIMEOUT_S = 3.0
RETRIES = 2

Command = tuple[str | int | float | bytes, ...]
"""A Redis command with its arguments; the first argument is its key: `("HSET", key, "field", "value")`."""

# Redis runs a script as one step. WATCH and MULTI would do the same, but not through redis-py's client for Cluster.
_COMMIT = """
if ARGV[1] ~= '' then
  local found = redis.call('HGET', KEYS[1], ARGV[1])
  if ARGV[2] ~= (found and '=' .. found or '') then return 0 end
end
local at = 3
while at <= #ARGV do
  local count = tonumber(ARGV[at])
  redis.call(unpack(ARGV, at + 1, at + count))
  at = at + count + 1
end
return 1
"""


@dataclass(frozen=True)
class Unchanged:
    """A condition of `commit`: the hash `key` still has `value` in `field`, or no such field when it is None."""

    key: str
    field: str
    value: str | None


class Connection:
    """Redis by URL. `client` takes single commands; `commit` changes several keys of one hash tag together.

    Every write of the agent gives the same when it is carried out twice: after a lost answer it is simply repeated,
    and the client does so by itself.
    """

    def __init__(self, address: Address, client: Any, keys: Keys, sentinel: Sentinel | None = None) -> None:
        self.address = address
        self.client = client  # redis-py's types for the asynchronous clients do not agree with one another
        self.keys = keys
        self._sentinel = sentinel

    @classmethod
    def from_settings(cls, settings: StateSettings) -> "Connection":
        """A connection as the settings say; nothing is sent yet.

        Raises:
            StateError: a bad URL, or a file that cannot be read.
        """
        address = parse(settings.redis_url)
        username = address.username or settings.redis_username
        password = address.password or secret(
            settings.redis_password, settings.redis_password_file, "the password for Redis"
        )
        common: dict[str, Any] = {
            "decode_responses": True,
            "socket_timeout": TIMEOUT_S,
            "socket_connect_timeout": TIMEOUT_S,
            "health_check_interval": 15,
            "retry": Retry(ExponentialWithJitterBackoff(base=0.05, cap=0.5), RETRIES),
            **(_tls(settings) if address.tls else {}),
        }
        user: dict[str, Any] = {"username": username or None, "password": password or None, "db": address.db}
        keys = Keys(settings.redis_prefix)
        if address.path:
            return cls(address, redis.Redis(unix_socket_path=address.path, **user, **common), keys)
        if address.kind is Kind.CLUSTER:
            nodes = [ClusterNode(host, port) for host, port in address.hosts]
            return cls(address, RedisCluster(startup_nodes=nodes, **user, **common), keys)
        if address.kind is Kind.SENTINEL:
            own = secret(
                settings.redis_sentinel_password, settings.redis_sentinel_password_file, "the password for Sentinel"
            )
            theirs: dict[str, Any] = {
                "username": settings.redis_sentinel_username or None,
                "password": own or None,
                **common,
            }
            sentinel = Sentinel(address.hosts, sentinel_kwargs=theirs)  # type: ignore[no-untyped-call]
            return cls(address, sentinel.master_for(address.service, **user, **common), keys, sentinel)
        ((host, port),) = address.hosts
        return cls(address, redis.Redis(host=host, port=port, **user, **common), keys)

    async def connect(self) -> None:
        """Checks that Redis answers, and lets us at our keys.

        Raises:
            StateError: it does not; the message says why.
        """
        try:
            await self.client.exists(self.keys.live)
        except AWAY as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise StateError(f"Redis at {self.address.shown} does not answer: {reason}") from error

    async def reachable(self) -> bool:
        """Redis answers now."""
        try:
            await self.connect()
        except StateError:
            return False
        return True

    async def commit(self, commands: Sequence[Command], unchanged: Unchanged | None = None) -> bool:
        """Carries out all commands as one step, or none: then the condition did not hold, and the answer is False.

        Optimistic locking: read a hash with its version, decide, `commit` under `Unchanged(key, "version", read)`, and
        begin anew when that gives False. All keys must have the same hash tag. After a lost answer the client repeats
        it; with a condition, False may then mean that the first one was carried out: read again.

        Raises:
            RedisError, OSError: see `AWAY`.
        """
        keys = [str(command[1]) for command in commands]
        field, value = "", ""
        if unchanged is not None:
            keys.insert(0, unchanged.key)
            field, value = unchanged.field, "" if unchanged.value is None else f"={unchanged.value}"
        flat: list[str | int | float | bytes] = []
        for command in commands:
            flat += [len(command), *command]
        return bool(await self.client.eval(_COMMIT, len(keys), *keys, field, value, *flat))

    async def close(self) -> None:
        """Closes the connections."""
        await self.client.aclose()
        if self._sentinel is not None:
            for one in self._sentinel.sentinels:
                await one.aclose()


def _tls(settings: StateSettings) -> dict[str, Any]:
    ca, certificate, key = settings.redis_tls_ca, settings.redis_tls_certificate, settings.redis_tls_key
    try:
        context = ssl.create_default_context(cafile=ca)
        if certificate is not None:
            context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        files = ", ".join(str(path) for path in (ca, certificate, key) if path is not None)
        raise StateError(f"the TLS files for Redis cannot be used ({files}): {error}") from error
    return {
        "ssl": True,
        "ssl_ca_certs": str(ca) if ca is not None else None,
        "ssl_certfile": str(certificate) if certificate is not None else None,
        "ssl_keyfile": str(key) if key is not None else None,
        "ssl_check_hostname": settings.redis_tls_check_hostname,
    }
