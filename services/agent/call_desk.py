"""What an operator sees of an agent's calls and does with them. The gRPC service and the HTTP API both stand on it."""

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

from redis.exceptions import RedisError

from services.agent.conversation import Entry
from services.agent.events import CallRecord, CallState, Happening, Watcher
from services.agent.outbound.placed import DialOptions, OnMachine
from services.agent.switchboard import Switchboard
from services.common.errors import AtCapacityError, InvalidInputError, UnavailableError, UnknownIdError


class CallDesk:
    """Reads and watches calls, and places them; what is done to a live one, `switchboard` does.

    Args:
        ring_timeout_s: of placed calls, where nobody names one.
    """

    def __init__(self, switchboard: Switchboard, ring_timeout_s: float) -> None:
        self.switchboard = switchboard
        self._ring_timeout_s = ring_timeout_s

    def live(self) -> list[CallRecord]:
        """Of calls that have not ended, oldest first; some that have may still be clearing up."""
        records = (call.record for call in self.switchboard.calls)
        return [record for record in records if record.state is not CallState.ENDED]

    async def conversation(self, call_id: str) -> list[Entry]:
        """What was said in a call, live or ended: what Redis has of it now.

        Raises:
            UnknownIdError: no such call, or it ended long ago.
            UnavailableError: Redis does not answer.
        """
        await self.switchboard.record(call_id)
        try:
            return await self.switchboard.around.store.conversation(call_id)
        except (RedisError, OSError) as error:
            raise UnavailableError("Redis does not answer") from error

    @contextmanager
    def watching(self, call_id: str = "") -> Iterator[AsyncIterator[Happening]]:
        """Records of the calls there are, then events as they come: nothing is missed from the block's beginning on.

        Args:
            call_id: of the only call to watch; the events end with it.

        Raises:
            UnknownIdError: no such live call.
            AtCapacityError: from the iterator, when it is read too slowly.
        """
        with self.switchboard.around.bus.watch() as watcher:
            records = self.live()
            if call_id:
                records = [record for record in records if record.call_id == call_id]
                if not records:
                    raise UnknownIdError(f"no live call {call_id!r}")
            yield _events(records, watcher, call_id)

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


async def _events(records: list[CallRecord], watcher: Watcher, call_id: str) -> AsyncIterator[Happening]:
    for record in records:
        yield Happening(record.call_id, record)
    async for happening in watcher:
        if call_id and happening.call_id != call_id:
            continue
        yield happening
        if call_id and isinstance(happening.event, CallRecord) and happening.event.state is CallState.ENDED:
            return
    if watcher.lagged:
        raise AtCapacityError("this watcher reads too slowly; watch again")
