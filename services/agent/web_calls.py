"""Calls from pages: new ones, and those that come back to a call they had."""

import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from aiortc import RTCIceCandidate

from services.agent.ice import IceServers
from services.agent.legs.base import CallRefusedError, LegError
from services.agent.legs.webrtc import WebRtcLeg
from services.agent.persona_store.book import StoredPersona
from services.agent.returns import Standing
from services.agent.state.address import StateError
from services.agent.state.connection import AWAY
from services.agent.state.tokens import ResumeTokens
from services.agent.switchboard import Switchboard

log = logging.getLogger(__name__)

GONE = "there is no such call any more"
RETRY_S = 5.0  # how much longer than a lease a page tries


class GoneError(Exception):
    """The call that a page wants back has ended, or was never there."""


class ElsewhereError(CallRefusedError):
    """Another agent has the call, or had it a moment ago; in a moment it can be gone on with here."""

    def __init__(self) -> None:
        super().__init__("the call is on its way here", retry_after_s=1)


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
        switchboard: Switchboard,
        tokens: ResumeTokens,
        ice: IceServers,
        resume_s: float,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._switchboard = switchboard
        self._returns = switchboard.around.returns
        self._tokens = tokens
        self._ice = ice
        self._now = now
        self._resume_s = resume_s
        self._legs: dict[str, WebRtcLeg] = {}

    @property
    def patience_s(self) -> float:
        """For how long a page should try to come back: an agent that died is missed when a lease has expired."""
        return max(self._resume_s, self._switchboard.around.store.times.lease_s + RETRY_S) if self._resume_s else 0.0

    @property
    def ice_ttl_s(self) -> int:
        """For how long `ice_servers` are good."""
        return self._ice.ttl_s

    def ice_servers(self) -> list[dict[str, object]]:
        """STUN and TURN servers for a page, with credentials of its own."""
        return self._ice.for_page(self._now(), secrets.token_hex(8))

    async def place(self, sdp: str, caller: str, persona: StoredPersona | None = None) -> Answered:
        """A new call.

        Args:
            persona: who answers; None: the one that answers pages.

        Raises:
            BadOfferError: the offer cannot be answered.
            CallRefusedError: there is no room.
        """
        if persona is None:
            return await self._begin(sdp, caller, self._switchboard)
        return await self._begin(sdp, caller, lambda leg: self._switchboard.talk(leg, persona))

    async def resume(self, token: str, sdp: str, new_peer: bool, caller: str) -> Answered:
        """The call of a token: on a new peer connection, or renegotiated on the one it has.

        A call that was lost with its agent is gone on with by a new one here.

        Raises:
            BadOfferError: the offer cannot be answered.
            GoneError: the call has ended.
            CallRefusedError: not now.
        """
        try:
            call_id = await self._tokens.call_of(token)
            leg = self._legs.get(call_id or "")
            if call_id is None or (leg is None and not new_peer):
                raise GoneError(GONE)
            if leg is None:
                return await self._return(call_id, sdp, caller)
        except StateError as error:
            log.error("a call cannot be gone on with", extra={"error": str(error)})
            raise GoneError("what was said cannot be read") from error
        except AWAY as error:
            raise CallRefusedError("Redis does not answer", retry_after_s=1) from error
        try:
            await (leg.resume(sdp) if new_peer else leg.renegotiate(sdp))
        except LegError as error:
            raise GoneError(str(error)) from error
        return Answered(leg.sdp_answer, call_id, token)

    async def _return(self, call_id: str, sdp: str, caller: str) -> Answered:
        """A page of another agent's call, or of one that another call went on with."""
        call_id, standing = await self._returns.standing(call_id)
        leg = self._legs.get(call_id)
        if leg is not None:
            try:
                await leg.resume(sdp)
            except LegError as error:
                raise GoneError(str(error)) from error
            return Answered(leg.sdp_answer, call_id, self._tokens.issue(call_id))
        if standing is Standing.OVER or (standing is Standing.OURS and self._switchboard.holds(call_id)):
            raise GoneError(GONE)
        if standing is not Standing.FREE:
            raise ElsewhereError
        past = await self._returns.past(call_id)
        return await self._begin(sdp, caller, lambda leg: self._switchboard.go_on(leg, past))

    async def _begin(self, sdp: str, caller: str, accept: Callable[[WebRtcLeg], Awaitable[str]]) -> Answered:
        servers = self._ice.for_agent(self._now(), secrets.token_hex(8))
        leg = await WebRtcLeg.from_offer(sdp, caller, servers, self._resume_s)
        try:
            call_id = await accept(leg)
        except CallRefusedError as error:
            await leg.hang_up(error.reason)
            raise
        token = self._tokens.issue(call_id)
        self._legs[call_id] = leg
        leg.ended.add_done_callback(lambda _: self._forget(call_id))
        return Answered(leg.sdp_answer, call_id, token)

    async def trickle(self, token: str, candidates: Sequence[RTCIceCandidate | None]) -> None:
        """More of a page's ICE candidates.

        Raises:
            GoneError: the call has ended.
        """
        leg = await self._leg(token)
        await leg.add_candidates(candidates)

    async def hang_up(self, token: str) -> None:
        """The page ends its call.

        Raises:
            GoneError: it has ended already.
        """
        leg = await self._leg(token)
        leg.caller_hung_up()

    async def _leg(self, token: str) -> WebRtcLeg:
        try:
            call_id = await self._tokens.call_of(token)
        except AWAY:
            call_id = None
        leg = self._legs.get(call_id or "")
        if leg is None:
            raise GoneError(GONE)
        return leg

    def _forget(self, call_id: str) -> None:
        self._legs.pop(call_id, None)
        self._tokens.revoke(call_id)
