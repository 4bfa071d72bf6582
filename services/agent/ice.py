"""STUN and TURN servers, and the credentials that pages get for them. Pure: time and names are passed in."""

import base64
import hashlib
import hmac
from dataclasses import dataclass, field

from aiortc import RTCIceServer
from aiortc.rtcicetransport import parse_stun_turn_uri


@dataclass(frozen=True)
class IceServers:
    """Servers for both ends of a call.

    Attributes:
        urls: `stun:` and `turn:` URLs (RFC 7064, RFC 7065).
        username: of the TURN servers; empty for time-limited users.
        secret: the user's password, or what is shared with the TURN servers (coturn's `use-auth-secret`).
        ttl_s: for how long a time-limited user is good.
    """

    urls: tuple[str, ...] = ()
    username: str = ""
    secret: str = field(default="", repr=False)
    ttl_s: int = 7200

    def __post_init__(self) -> None:
        for url in self.urls:
            try:
                parse_stun_turn_uri(url)
            except ValueError:
                raise ValueError(f"{url!r} is no STUN or TURN URL, such as stun:stun.example.org:3478") from None
        if any(_is_turn(url) for url in self.urls) and not self.secret:
            raise ValueError("TURN servers need a secret (--turn-secret-file or TRUNKLINE_AGENT_TURN_SECRET)")

    @classmethod
    def parse(cls, urls: str, username: str, secret: str, ttl_s: int) -> "IceServers":
        """From comma-separated URLs.

        Raises:
            ValueError: one is no URL of a STUN or TURN server, or a TURN server has no secret.
        """
        return cls(tuple(filter(None, (url.strip() for url in urls.split(",")))), username, secret, ttl_s)

    def credentials(self, now: float, name: str) -> tuple[str, str]:
        """User and password for the TURN servers.

        A time-limited user is the Unix time at which it ends and a name; its password is the HMAC-SHA1 of it
        (draft-uberti-behave-turn-rest-00 section 2.2).
        """
        if self.username:
            return self.username, self.secret
        user = f"{int(now) + self.ttl_s}:{name}"
        digest = hmac.new(self.secret.encode(), user.encode(), hashlib.sha1).digest()
        return user, base64.b64encode(digest).decode()

    def for_page(self, now: float, name: str) -> list[dict[str, object]]:
        """As a browser's RTCConfiguration takes them."""
        stun = [url for url in self.urls if not _is_turn(url)]
        turn = [url for url in self.urls if _is_turn(url)]
        servers: list[dict[str, object]] = [{"urls": stun}] if stun else []
        if turn:
            user, password = self.credentials(now, name)
            servers.append({"urls": turn, "username": user, "credential": password})
        return servers

    def for_agent(self, now: float, name: str) -> list[RTCIceServer]:
        """As aiortc takes them; it uses the first STUN and the first TURN server."""
        user, password = self.credentials(now, name) if self.secret else (None, None)
        return [
            RTCIceServer(url, username=user, credential=password) if _is_turn(url) else RTCIceServer(url)
            for url in self.urls
        ]


def _is_turn(url: str) -> bool:
    return url.startswith("turn")
