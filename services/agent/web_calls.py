"""Calls from pages: new ones, and those that come back to a call they had."""

import asyncio
import hashlib
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from aiortc import RTCIceCandidate

from services.agent.ice import IceServers
from services.agent.legs.base import CallAcceptor, CallRefusedError, LegError
from services.agent.legs.webrtc import WebRtcLeg

TOKEN_BYTES = 32


class GoneError(Exception):
    """The call that a page wants back has ended, or was never there."""


class ResumeTokens(Protocol):
    """Knows which call a token belongs to. One call has one token, from its answer to its end."""

    async def issue(self, call_id: str) -> str:
        """A new token for a call."""

    async def call_of(self, token: str) -> str | None:
        """The call of a token; None for one that is unknown or over."""

    async def revoke(self, call_id: str) -> None:
        """The call is over."""


class LocalTokens:
    """Tokens of the calls of this process. Only their hashes are kept: what is read here opens no call."""

    def __init__(self, new_token: Callable[[], str] = lambda: secrets.token_urlsafe(TOKEN_BYTES)) -> None:
        self._new_token = new_token
        self._calls: dict[str, str] = {}

    async def issue(self, call_id: str) -> str:
        """See `ResumeTokens`."""
        token = self._new_token()
        self._calls[_hash(token)] = call_id
        return token

    async def call_of(self, token: str) -> str | None:
        """See `ResumeTokens`."""
        return self._calls.get(_hash(token))

    async def revoke(self, call_id: str) -> None:
        """See `ResumeTokens`."""
        self._calls = {token: call for token, call in self._calls.items() if call != call_id}


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


@dataclass(frozen=True)
class Answered:
    """What a page gets for its offer.

    Attributes:
        sdp: the answer.
        token: with it the page trickles candidates and comes back.
    """

    sdp: str
    call_id: str
    token: str


class WebCalls:
    """The pages' calls of one agent."""

    def __init__(
        self,
        accept: CallAcceptor,
        tokens: ResumeTokens,
        ice: IceServers,
        resume_s: float,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._accept = accept
        self._tokens = tokens
        self._ice = ice
        self._now = now
        self.resume_s = resume_s
        self._legs: dict[str, WebRtcLeg] = {}
        self._revoking: set[asyncio.Task[None]] = set()

    @property
    def ice_ttl_s(self) -> int:
        """For how long `ice_servers` are good."""
        return self._ice.ttl_s

    def ice_servers(self) -> list[dict[str, object]]:
        """STUN and TURN servers for a page, with credentials of its own."""
        return self._ice.for_page(self._now(), secrets.token_hex(8))

    async def place(self, sdp: str, caller: str) -> Answered:
        """A new call.

        Raises:
            BadOfferError: the offer cannot be answered.
            CallRefusedError: there is no room.
        """
        servers = self._ice.for_agent(self._now(), secrets.token_hex(8))
        leg = await WebRtcLeg.from_offer(sdp, caller, servers, self.resume_s)
        try:
            call_id = await self._accept(leg)
        except CallRefusedError as error:
            await leg.hang_up(error.reason)
            raise
        token = await self._tokens.issue(call_id)
        self._legs[call_id] = leg
        leg.ended.add_done_callback(lambda _: self._forget(call_id))
        return Answered(leg.sdp_answer, call_id, token)

    async def resume(self, token: str, sdp: str, new_peer: bool) -> Answered:
        """The same call on a new peer connection, or renegotiated on the one it has.

        Raises:
            BadOfferError: the offer cannot be answered.
            GoneError: the call has ended.
        """
        call_id, leg = await self._leg(token)
        try:
            await (leg.resume(sdp) if new_peer else leg.renegotiate(sdp))
        except LegError as error:
            raise GoneError(str(error)) from error
        return Answered(leg.sdp_answer, call_id, token)

    async def trickle(self, token: str, candidates: Sequence[RTCIceCandidate | None]) -> None:
        """More of a page's ICE candidates.

        Raises:
            GoneError: the call has ended.
        """
        _, leg = await self._leg(token)
        await leg.add_candidates(candidates)

    async def hang_up(self, token: str) -> None:
        """The page ends its call.

        Raises:
            GoneError: it has ended already.
        """
        _, leg = await self._leg(token)
        leg.caller_hung_up()

    async def _leg(self, token: str) -> tuple[str, WebRtcLeg]:
        call_id = await self._tokens.call_of(token)
        leg = self._legs.get(call_id or "")
        if call_id is None or leg is None:
            raise GoneError("there is no such call any more")
        return call_id, leg

    def _forget(self, call_id: str) -> None:
        self._legs.pop(call_id, None)
        revoking = asyncio.ensure_future(self._tokens.revoke(call_id))
        self._revoking.add(revoking)
        revoking.add_done_callback(self._revoking.discard)
