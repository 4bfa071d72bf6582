"""Where the replicas of a model service are: a static list, DNS names, or both."""

import asyncio
import re
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

_ADDRESS = re.compile(r"^(?P<host>[^\s:,/]+|\[[0-9a-fA-F:]+\]):(?P<port>\d{1,5})$")

Lookup = Callable[[str], Awaitable[list[str]]]


@dataclass(frozen=True)
class Targets:
    """Replicas of one service.

    Attributes:
        addresses: each `host:port` is one replica.
        names: each address of a name is one replica, at that port. A headless Kubernetes service is such a name.
    """

    addresses: tuple[str, ...] = ()
    names: tuple[tuple[str, int], ...] = ()

    @classmethod
    def parse(cls, value: str) -> "Targets":
        """From `host:port,host:port` and `dns:name:port`, in any mixture.

        Raises:
            ValueError: nothing, or something else; the message says what is allowed.
        """
        addresses, names = [], []
        for item in filter(None, (part.strip() for part in value.split(","))):
            match = _ADDRESS.match(item.removeprefix("dns:"))
            if match is None or not 0 < int(match["port"]) <= 65535:
                raise ValueError("must be host:port, several of them with commas between, or dns:name:port")
            if item.startswith("dns:"):
                names.append((match["host"], int(match["port"])))
            else:
                addresses.append(item)
        if not addresses and not names:
            raise ValueError("must name at least one host:port or dns:name:port")
        return cls(tuple(addresses), tuple(names))

    async def resolve(self, lookup: Lookup) -> dict[str, str]:
        """All replicas now: `host:port`, and the name that their certificates bear where it is not the host.

        Raises:
            OSError: a name cannot be looked up now.
        """
        found = dict.fromkeys(self.addresses, "")
        for name, port in self.names:
            for host in await lookup(name):
                found.setdefault(f"[{host}]:{port}" if ":" in host else f"{host}:{port}", name)
        return found


async def look_up(name: str) -> list[str]:
    """All A and AAAA records of a name (RFC 1035, RFC 3596), through the system's resolver; none where there is none.

    Raises:
        OSError: the resolver does not answer.
    """
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        if error.errno in (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)):
            return []  # a headless service without a ready pod has no records
        raise
    return list(dict.fromkeys(str(address[0]) for *_, address in found))
