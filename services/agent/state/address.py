"""Redis URLs: one server, Sentinel or Cluster. Pure."""

import re
from dataclasses import dataclass
from enum import Enum
from typing import Any
from urllib.parse import unquote

_PORT = {"redis": 6379, "sentinel": 26379, "cluster": 6379}
_FORMS = (
    "redis[s]://[user[:password]@]host[:port][/db], unix:///path, redis[s]+sentinel://host[:port],.../service[/db] or "
    "redis[s]+cluster://host[:port],..."
)
_HOST = re.compile(r"^(?P<host>\[[0-9a-fA-F:.]+\]|[^\s:\[\]/]+)(:(?P<port>\d{1,5}))?$")


class StateError(Exception):
    """Redis cannot be reached, is set up wrongly, or holds what cannot be read; the message says which in one line."""


class Kind(Enum):
    """How the servers of a URL belong together."""

    STANDALONE = "redis"
    SENTINEL = "sentinel"
    CLUSTER = "cluster"


@dataclass(frozen=True)
class Address:
    """A checked URL.

    Attributes:
        hosts: host and port of the server, of the Sentinels, or of some of the cluster's nodes; none with `path`.
        tls: connections are encrypted, those to Sentinels too.
        service: name under which the Sentinels know the primary.
        path: of a Unix socket.
        shown: the URL without user and password, for messages.
    """

    kind: Kind
    hosts: tuple[tuple[str, int], ...]
    shown: str
    tls: bool = False
    service: str = ""
    db: int = 0
    username: str = ""
    password: str = ""
    path: str = ""


def parse(url: str) -> Address:
    """Reads a Redis URL; see the message of the error for its forms.

    Raises:
        StateError: it is none; the message does not repeat user and password.
    """
    scheme, separator, rest = url.partition("://")
    credentials, _, place = rest.rpartition("@")
    shown = f"{scheme}{separator}{place}" if separator else url.rpartition("@")[2]
    try:
        username, _, password = credentials.partition(":")
        known = {"shown": shown, "username": unquote(username), "password": unquote(password)}
        return _parsed(scheme, separator, place, known)
    except ValueError as error:
        raise StateError(f"{shown!r} is no Redis URL: {error}; it may be {_FORMS}") from error


def _parsed(scheme: str, separator: str, place: str, known: dict[str, Any]) -> Address:
    protocol, _, variant = scheme.partition("+")
    if not separator or protocol not in ("redis", "rediss", "unix") or variant not in ("", "sentinel", "cluster"):
        raise ValueError(f"unknown scheme {scheme!r}" if separator else "it has no scheme")
    if "?" in place or "#" in place:
        raise ValueError("options after '?' are not taken, there are settings for them")
    if protocol == "unix":
        if variant or not place.startswith("/"):
            raise ValueError("a Unix socket has a path, and nothing else")
        return Address(Kind.STANDALONE, (), path=unquote(place), **known)
    kind = Kind(variant or "redis")
    names, _, path = place.partition("/")
    parts = [unquote(part) for part in path.split("/") if part]
    service = ""
    if kind is Kind.SENTINEL:
        if not parts:
            raise ValueError("the name of the service is missing after the Sentinels")
        service = parts.pop(0)
    if kind is Kind.CLUSTER and parts not in ([], ["0"]):
        raise ValueError("a cluster has database 0 only")
    hosts = tuple(_host(name.strip(), _PORT[kind.value]) for name in names.split(","))
    if kind is Kind.STANDALONE and len(hosts) > 1:
        raise ValueError("several servers need +sentinel or +cluster")
    if len(parts) > 1 or (parts and not parts[0].isdecimal()):
        raise ValueError("the database must be a number")
    db = int(parts[0]) if parts else 0
    return Address(kind, hosts, tls=protocol == "rediss", service=service, db=db, **known)


def _host(name: str, port: int) -> tuple[str, int]:
    match = _HOST.match(name)
    if match is None:
        raise ValueError(f"{name!r} is no host or host:port")
    number = int(match["port"] or port)
    if not 0 < number < 65536:
        raise ValueError(f"port {number} does not exist")
    return match["host"].strip("[]"), number
