"""What an operator sees of an agent's calls and does with them. The gRPC service and the HTTP API both stand on it."""

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from redis.exceptions import RedisError

from services.agent.call import Call
from services.agent.conversation import Entry
from services.agent.events import CallRecord, CallState, Happening, Watcher
from services.agent.outbound.placed import DialOptions, OnMachine
from services.agent.state.agents import AgentDirectory
from services.agent.state.store import StoredCall
from services.agent.switchboard import Switchboard
from services.common.errors import (
    AtCapacityError,
    InvalidInputError,
    UnavailableError,
    UnknownIdError,
    WrongOrderError,
)


class HeldElsewhereError(WrongOrderError):
    """Another agent has the call: it alone can do anything to it.

    Attributes:
        agent: its id.
        address: URL under which its API is reached; empty when it is not known.
    """

    def __init__(self, call_id: str, agent: str, address: str) -> None:
        where = f" at {address}" if address else ""
        super().__init__(f"the agent {agent!r}{where} has the call {call_id!r}: ask there")
        self.agent = agent
        self.address = address


@dataclass(frozen=True)
class Listed:
    """A call and who has it, or had it.

    Attributes:
        agent: its id.
        here: it is live, and this agent's.
    """

    record: CallRecord
    agent: str
    here: bool


class CallDesk:
    """Reads and watches calls, and places them; what is done to a live one, `switchboard` does.

    Args:
        ring_timeout_s: of placed calls, where nobody names one.
    """

    def __init__(self, switchboard: Switchboard, agents: AgentDirectory, ring_timeout_s: float) -> None:
        self.switchboard = switchboard
        self._agents = agents
        self._ring_timeout_s = ring_timeout_s

    def live(self) -> list[Listed]:
        """Of this agent's calls that have not ended, oldest first; some that have may still be clearing up."""
        records = (call.record for call in self.switchboard.calls)
        return [self._ours(record) for record in records if record.state is not CallState.ENDED]

    async def live_anywhere(self) -> list[Listed]:
        """The same of all agents; of this one's as it knows them, of the others' as Redis does.

        Raises:
            UnavailableError: Redis does not answer.
        """
        try:
            stored = await self.switchboard.around.store.live()
        except (RedisError, OSError) as error:
            raise _away() from error
        agent_id = self.switchboard.agent_id
        others = [Listed(one.record, one.agent, here=False) for one in stored if one.agent != agent_id]
        return sorted([*self.live(), *others], key=lambda one: one.record.started)

    async def call(self, call_id: str) -> Listed:
        """A call, live or ended, of any agent.

        Raises:
            UnknownIdError: no such call, or it ended long ago.
            UnavailableError: Redis does not answer.
        """
        if self.switchboard.holds(call_id):
            return self._ours(self.switchboard.find(call_id).record)
        stored = await self._stored(call_id)
        if stored is None:
            raise UnknownIdError(f"no call {call_id!r}")
        return Listed(stored.record, stored.agent, here=False)

    async def here(self, call_id: str) -> Call:
        """A live call of this agent, to do something to it.

        Raises:
            HeldElsewhereError: it is another agent's.
            UnknownIdError: no such live call.
            UnavailableError: it is none of ours, and Redis does not answer.
        """
        if self.switchboard.holds(call_id):
            return self.switchboard.find(call_id)
        stored = await self._stored(call_id)
        live = stored is not None and stored.held and stored.record.state is not CallState.ENDED
        if stored is None or not live or stored.agent == self.switchboard.agent_id:
            raise UnknownIdError(f"no live call {call_id!r}")
        try:
            card = await self._agents.find(stored.agent)
        except (RedisError, OSError) as error:
            raise _away() from error
        raise HeldElsewhereError(call_id, stored.agent, card.address if card is not None else "")

    async def conversation(self, call_id: str) -> list[Entry]:
        """What was said in a call, live or ended: what Redis has of it now.

        Raises:
            UnknownIdError: no such call, or it ended long ago.
            UnavailableError: Redis does not answer.
        """
        await self.call(call_id)
        try:
            return await self.switchboard.around.store.conversation(call_id)
        except (RedisError, OSError) as error:
            raise _away() from error

    @contextmanager
    def watching(self, call_id: str = "", after: str = "", recent: bool = False) -> Iterator[AsyncIterator[Happening]]:
        """Records of the calls there are, then events as they come: nothing is missed from the block's beginning on.

        Args:
            call_id: of the only call to watch, which is this agent's; the events end with it.
            after: where somebody was who comes back, see `EventBus.place`: instead of the records they get what they
                missed, if that is still known.
            recent: before the record of that only call, what is still known of it.

        Raises:
            UnknownIdError: no such live call.
            AtCapacityError: from the iterator, when it is read too slowly.
        """
        bus = self.switchboard.around.bus
        with bus.watch() as watcher:
            missed = bus.since(after) if after else None
            records = [listed.record for listed in self.live()]
            if call_id:
                records = [record for record in records if record.call_id == call_id]
                over = missed is not None and any(_ends(one, call_id) for one in missed)
                if not records and not over:
                    raise UnknownIdError(f"no live call {call_id!r}")
            if missed is None:
                missed = bus.recent(call_id) if call_id and recent else []
                missed += [Happening(record.call_id, record, number=bus.last) for record in records]
            yield _events(missed, watcher, call_id)

    async def dial(
        self,
        target: str,
        persona: str = "",
        ring_timeout_s: float = 0.0,
        greet_after_s: float = 0.0,
        on_machine: OnMachine = OnMachine.IGNORE,
        text: str = "",
    ) -> str:
        """Calls a number; returns the call's id while it rings. 0 stands for what is usual.

        Raises:
            InvalidInputError: a value is out of range, or see `Switchboard.dial`, which raises more.
        """
        try:
            options = DialOptions(
                ring_timeout_s=ring_timeout_s or self._ring_timeout_s,
                greet_after_s=greet_after_s or DialOptions.greet_after_s,
                on_machine=on_machine,
                text=" ".join(text.split()),
            )
        except ValueError as error:
            raise InvalidInputError(str(error)) from error
        return await self.switchboard.dial(target, persona, options)

    def _ours(self, record: CallRecord) -> Listed:
        return Listed(record, self.switchboard.agent_id, here=record.state is not CallState.ENDED)

    async def _stored(self, call_id: str) -> StoredCall | None:
        try:
            return await self.switchboard.around.store.stored(call_id)
        except (RedisError, OSError) as error:
            raise _away() from error


def _away() -> UnavailableError:
    return UnavailableError("Redis does not answer")


def _ends(happening: Happening, call_id: str) -> bool:
    event = happening.event
    return happening.call_id == call_id and isinstance(event, CallRecord) and event.state is CallState.ENDED


async def _events(first: list[Happening], watcher: Watcher, call_id: str) -> AsyncIterator[Happening]:
    for happening in first:
        if not call_id or happening.call_id == call_id:
            yield happening
        if call_id and _ends(happening, call_id):
            return
    async for happening in watcher:
        if call_id and happening.call_id != call_id:
            continue
        yield happening
        if call_id and _ends(happening, call_id):
            return
    if watcher.lagged:
        raise AtCapacityError("this watcher reads too slowly; watch again")
