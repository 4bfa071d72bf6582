"""Keeps a call's LM session in line with its conversation: cut back, opened anew, or trimmed when it gets too long."""

import logging
from collections.abc import Sequence

from services.agent.conversation import Conversation, Entry
from services.agent.floor import CallContext
from services.agent.lm_session import LmSession
from services.agent.models import ModelError

log = logging.getLogger(__name__)

UTTERANCE_TOKENS = 350  # a turn of 28 s


class SessionKeeper:
    """The LM session of one call, and those that follow it when it fails."""

    def __init__(self, call: CallContext) -> None:
        self._call = call
        self._session: LmSession | None = None

    async def in_line(self, ids: Sequence[int]) -> LmSession:
        """A session that holds exactly these ids: the one at hand, cut back, or a new one.

        Raises:
            ModelError: no session could be opened.
        """
        session, wanted = self._session, list(ids)
        if session is None or session.failed or session.ids[: len(wanted)] != wanted:
            return await self.reopened(wanted)
        if not session.settled or len(session.ids) > len(wanted):
            try:
                await session.truncate(len(wanted))
            except ModelError as error:
                note_failure(self._call.call_id, error)
                return await self.reopened(wanted)
        return session

    async def reopened(self, ids: Sequence[int]) -> LmSession:
        """A new session with these ids.

        Raises:
            ModelError: it could not be opened.
        """
        await self.close()
        session = LmSession(self._call.places.lm, self._call.call_id)
        await session.open(list(ids))
        self._session = session
        return session

    def make_room(self, conversation: Conversation, turns: int) -> Entry | None:
        """Leaves out the oldest turns when a turn and its answer might not fit any more; None when all is left in."""
        context = self._call.models.limits.context_length
        needed = min(UTTERANCE_TOKENS + self._call.persona.max_new_tokens, context // 2)
        if len(conversation.ids) + needed <= context:
            return None
        entry = conversation.trim((context - needed) * 3 // 4, turns)
        if entry is not None:
            log.info("context trimmed", extra={"call_id": self._call.call_id, "length": entry.length})
        return entry

    async def close(self) -> None:
        """Ends the session, if there is one."""
        stale, self._session = self._session, None
        if stale is not None:
            await stale.close()


def note_failure(call_id: str, error: ModelError) -> None:
    """Into the log."""
    log.warning("a model service failed", extra={"call_id": call_id, "stage": error.stage, "code": error.code.name})
