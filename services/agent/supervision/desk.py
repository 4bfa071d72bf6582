"""Who may listen in, how many at once, and where it is written down."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator

from redis.exceptions import RedisError

from services.agent.call_desk import CallDesk
from services.agent.events import CallState, Listening
from services.agent.state.listeners import Listened, ListenerBook
from services.agent.supervision.earpiece import Earpiece
from services.common.errors import NotAllowedError, UnavailableError, WrongOrderError
from services.common.grpc_server import Slots

log = logging.getLogger(__name__)

MAX_LISTENERS = 16  # of an agent at once


class ListeningDesk:
    """Lets operators listen in on this agent's calls."""

    def __init__(self, calls: CallDesk, book: ListenerBook) -> None:
        self._calls = calls
        self._book = book
        self._places = Slots(MAX_LISTENERS, "places for listeners")
        self._noting: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def listening(self, call_id: str, who: str) -> AsyncIterator[Earpiece]:
        """A call's audio from now on; see `Earpiece`. That somebody listens is written down first.

        Args:
            who: name of their key.

        Raises:
            UnknownIdError, HeldElsewhereError: see `CallDesk.here`.
            NotAllowedError: its persona does not allow it.
            WrongOrderError: it is not answered yet.
            AtCapacityError: there are as many listeners as there may be.
            UnavailableError: it cannot be written down.
        """
        call = await self._calls.here(call_id)
        if not call.record.may_listen:
            raise NotAllowedError("the persona of this call does not allow to listen in (supervision.listen)")
        if call.record.state is CallState.RINGING:
            raise WrongOrderError("the call is not answered yet")
        publish = self._calls.switchboard.around.bus.publisher(call_id)
        with self._places.take():
            try:
                mark, listened = await self._book.begins(call_id, who)
            except (RedisError, OSError) as error:
                raise UnavailableError("Redis does not answer: who listens in must be written down") from error
            log.info("somebody listens in", extra={"call_id": call_id, "key": who})
            publish(Listening(who, on=True))
            try:
                with call.listening_in.join() as earpiece:
                    yield earpiece
            finally:
                publish(Listening(who, on=False))
                dropped_s = round(earpiece.dropped_s, 1)
                log.info("listens in no more", extra={"call_id": call_id, "key": who, "dropped_s": dropped_s})
                # a task of its own: whoever goes away has this one cancelled
                noting = asyncio.create_task(self._note_end(call_id, mark, listened), name="listener-noted")
                self._noting.add(noting)
                noting.add_done_callback(self._noting.discard)

    async def listeners(self, call_id: str) -> list[Listened]:
        """Who listened in on a call, live or ended, of any agent.

        Raises:
            UnknownIdError: no such call, or it ended long ago.
            UnavailableError: Redis does not answer.
        """
        await self._calls.call(call_id)
        try:
            return await self._book.of(call_id)
        except (RedisError, OSError) as error:
            raise UnavailableError("Redis does not answer") from error

    async def _note_end(self, call_id: str, mark: str, listened: Listened) -> None:
        try:
            await self._book.ends(call_id, mark, listened)
        except (RedisError, OSError) as error:
            log.warning("the end of listening in was not written down", extra={"error": type(error).__name__})
