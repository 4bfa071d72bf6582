"""Keys of the HTTP API: who may do what. Only their hashes are kept.

A key is 256 random bits, which no list of likely passwords holds: its plain SHA-256 tells as little as a salted hash.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

SECRET_BYTES = 32
PREFIX = "tlk_"  # by which scanners for leaked secrets know them

_LINE = re.compile(r"(?P<name>[a-z0-9][a-z0-9_-]{0,62}):(?P<role>[a-z]+):(?P<digest>[0-9a-f]{64})")


class Role(Enum):
    """What a key opens; each role includes those before it."""

    VIEWER = "viewer"  # reads
    OPERATOR = "operator"  # acts on calls
    ADMIN = "admin"  # changes personas

    def includes(self, other: "Role") -> bool:
        """Whoever has this role may do what `other` may."""
        ranks = list(Role)
        return ranks.index(self) >= ranks.index(other)


@dataclass(frozen=True)
class ApiKey:
    """A key as it is set up.

    Attributes:
        name: in logs and in personas' histories.
        digest: SHA-256 of the key, 32 bytes.
    """

    name: str
    role: Role
    digest: bytes


class KeyRing:
    """All keys of an agent; none: the API is closed."""

    def __init__(self, keys: Iterable[ApiKey] = ()) -> None:
        self._keys = tuple(keys)

    def __len__(self) -> int:
        return len(self._keys)

    @classmethod
    def parse(cls, text: str) -> "KeyRing":
        """From lines (or a list with commas) of `name:role:hash`; `#` begins a comment.

        Raises:
            ValueError: a line is not of this form, or a name or a hash stands there twice; the hash is not repeated.
        """
        keys: list[ApiKey] = []
        for number, line in enumerate(re.split(r"[\n,]", text), 1):
            entry = line.split("#", 1)[0].strip()
            if not entry:
                continue
            match = _LINE.fullmatch(entry)
            roles = [role.value for role in Role]
            if match is None or match["role"] not in roles:
                raise ValueError(
                    f"entry {number} is not name:role:hash, with a role of {', '.join(roles)} and 64 hexadecimal digits"
                )
            key = ApiKey(match["name"], Role(match["role"]), bytes.fromhex(match["digest"]))
            for other in keys:
                if other.name == key.name or other.digest == key.digest:
                    raise ValueError(f"entry {number}: the name or the hash of {other.name!r} stands there twice")
            keys.append(key)
        return cls(keys)

    @classmethod
    def of_page(cls, secret: str) -> "KeyRing":
        """The one key of web pages; an empty ring for an empty secret."""
        return cls([ApiKey("page", Role.VIEWER, _digest(secret))] if secret else [])

    def find(self, secret: str) -> ApiKey | None:
        """The key that somebody presents. Takes as long whether it is known or not."""
        digest = _digest(secret)
        found = None
        for key in self._keys:
            if hmac.compare_digest(key.digest, digest):
                found = key
        return found


def new_key(name: str, role: Role) -> tuple[str, str]:
    """A new key, and the line with its hash that is set up at agents.

    Raises:
        ValueError: the name cannot be used.
    """
    secret = PREFIX + secrets.token_urlsafe(SECRET_BYTES)
    line = f"{name}:{role.value}:{_digest(secret).hex()}"
    if _LINE.fullmatch(line) is None:
        raise ValueError("a key's name has up to 63 lower case letters, digits, - and _, and begins with no - or _")
    return secret, line


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()
