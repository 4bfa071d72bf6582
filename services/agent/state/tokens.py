"""The secrets with which pages come back to their calls. Only hashes of them are kept, here and in Redis."""

import hashlib
import hmac
import secrets
from collections.abc import Callable

from services.agent.state.store import Store

TOKEN_BYTES = 32


class ResumeTokens:
    """Knows which call a token belongs to. One call has one token at a time, from its answer to its end.

    A token names its call and holds a secret. Tokens of this process's calls are known without Redis.

    Args:
        remember: has Redis keep a call's digest for as long as its record says.
    """

    def __init__(
        self,
        store: Store,
        remember: Callable[[str, str], None],
        new_secret: Callable[[], str] = lambda: secrets.token_urlsafe(TOKEN_BYTES),
    ) -> None:
        self._store = store
        self._remember = remember
        self._new_secret = new_secret
        self._digests: dict[str, str] = {}

    def issue(self, call_id: str) -> str:
        """A new token for a call of this process."""
        token = f"{call_id}.{self._new_secret()}"
        self._digests[call_id] = _digest(token)
        self._remember(call_id, self._digests[call_id])
        return token

    async def call_of(self, token: str) -> str | None:
        """The call of a token, which may be any agent's; None for one that is unknown or over.

        Raises:
            RedisError, OSError: Redis is away, and the call is not of this process.
        """
        call_id = token.partition(".")[0]
        digest = self._digests.get(call_id) or await self._store.resume_digest(call_id)
        return call_id if digest is not None and hmac.compare_digest(digest, _digest(token)) else None

    def revoke(self, call_id: str) -> None:
        """The call is over; Redis forgets its token with it, unless another call may go on."""
        self._digests.pop(call_id, None)


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
