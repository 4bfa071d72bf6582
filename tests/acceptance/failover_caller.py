"""A caller of the failover run: one phone call, its record in Redis, and all of its sound."""

import asyncio

import grpc
import numpy as np

from loadtest.sip.talker import Talker
from services.agent.conversation import Entry, Role
from services.agent.state.store import Store
from tests.acceptance.seams import Wave
from trunkline.v1 import calls_pb2, calls_pb2_grpc

GREETING_S = 60.0


class PhoneCaller:
    """One call.

    Args:
        talker: the phone.
        calls: address of the agent's Calls service.
        store: of the agent.
    """

    def __init__(self, talker: Talker, calls: str, store: Store) -> None:
        self.talker = talker
        self.call_id = ""
        self._calls = calls
        self._store = store

    async def call(self) -> None:
        """Rings, and hears the greeting out. No other caller may ring meanwhile: the new call is this one's."""
        before = await self._live()
        message = await self.talker.call()
        assert message is not None
        assert message.status == 200, message.first_line
        while not (new := await self._live() - before):
            await asyncio.sleep(0.05)
        (self.call_id,) = new
        await self.talker.bot_is_quiet(GREETING_S)

    async def entries(self) -> list[Entry]:
        """The record so far."""
        return await self._store.conversation(self.call_id)

    async def answers(self) -> list[Entry]:
        """Answers to questions in the record."""
        return [entry for entry in await self.entries() if entry.role is Role.ASSISTANT and entry.turn > 0]

    def heard(self, start: int, end: int) -> Wave:
        """What came between two packets."""
        packets = self.talker.heard[start:end] or [np.zeros(0, np.int16)]
        return np.asarray(np.concatenate(packets) / 32768, np.float32)

    async def _live(self) -> set[str]:
        async with grpc.aio.insecure_channel(self._calls) as channel:
            listed = await calls_pb2_grpc.CallsStub(channel).ListCalls(calls_pb2.ListCallsRequest())
        return {call.call_id for call in listed.calls}
