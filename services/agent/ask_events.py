"""What the agent says about one call while `ask` makes it: captions and turn times, from the Calls service."""

import asyncio
import math
from dataclasses import dataclass, field

import grpc

from services.common.channels import channel
from services.common.errors import SetupError
from trunkline.v1 import calls_pb2, calls_pb2_grpc

CONNECT_S = 5.0
QUICK_WORD_S = 0.2  # nobody speaks faster


class NoEventsError(Exception):
    """The Calls service cannot be reached."""


@dataclass
class CallStory:
    """A call as the agent tells it.

    Attributes:
        captions: the bot's text by turn; turn 0 is the greeting.
        complete: turns whose text is complete.
        stages: by turn, milliseconds from the caller's end of speech to each stage.
        barge_ins: by turn, speech tokens of the answer that were heard before the caller interrupted it.
        end_reason: who or what ended the call.
    """

    call_id: str = ""
    captions: dict[int, str] = field(default_factory=dict)
    complete: set[int] = field(default_factory=set)
    stages: dict[int, dict[str, float]] = field(default_factory=dict)
    barge_ins: dict[int, int] = field(default_factory=dict)
    end_reason: str = ""
    over: asyncio.Event = field(default_factory=asyncio.Event)

    def takes_s(self, first: int, last: int) -> float:
        """The least time in which turns `first` to `last` can be said, seconds; infinite while any is being made."""
        turns = [turn for turn in self.captions if first <= turn <= last]
        if not turns or not self.complete.issuperset(turns):
            return math.inf
        return sum(len(self.captions[turn].split()) for turn in turns) * QUICK_WORD_S

    def take(self, event: calls_pb2.WatchCallsResponse) -> None:
        """Adds an event of this call."""
        kind = event.WhichOneof("event")
        if kind == "caption":
            turn = event.caption.turn
            self.captions[turn] = self.captions.get(turn, "") + event.caption.text
            if event.caption.is_final:
                self.complete.add(turn)
        elif kind == "turn":
            self.stages[event.turn.turn] = {stage.name: stage.end_ms for stage in event.turn.stages}
        elif kind == "barge_in":
            self.barge_ins[event.barge_in.turn] = event.barge_in.tokens_heard
        elif kind == "call" and event.call.state == calls_pb2.CALL_STATE_ENDED:
            self.end_reason = event.call.end_reason
            self.over.set()


class CallWatch:
    """Follows the one call whose From address contains a user name."""

    def __init__(self, address: str, user: str) -> None:
        self._address = address
        self._user = user
        self._channel: grpc.aio.Channel | None = None
        self._task: asyncio.Task[None] | None = None
        self.story = CallStory()

    async def start(self) -> None:
        """Asks for events. Of a call placed before they flow, the record comes first: nothing of it is missed.

        Raises:
            NoEventsError: nobody answers at the address.
        """
        try:
            self._channel = channel(self._address)
        except SetupError as error:
            raise NoEventsError(str(error)) from error
        stub: calls_pb2_grpc.CallsAsyncStub = calls_pb2_grpc.CallsStub(self._channel)
        try:
            # A watch is silent until something happens, whether the service is up or not: ask for something else.
            await stub.Info(calls_pb2.CallsInfoRequest(), timeout=CONNECT_S)
        except grpc.aio.AioRpcError as error:
            await self._channel.close()
            raise NoEventsError(f"the Calls service at {self._address} does not answer: {error.details()}") from error
        self._task = asyncio.create_task(self._follow(stub))

    async def finish(self, timeout_s: float) -> CallStory:
        """Waits for the end of the call to be told, at most `timeout_s`, and returns what is known."""
        try:
            async with asyncio.timeout(timeout_s):
                await self.story.over.wait()
        except TimeoutError:
            pass
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._channel is not None:
            await self._channel.close()
        return self.story

    async def _follow(self, stub: "calls_pb2_grpc.CallsAsyncStub") -> None:
        async for event in stub.WatchCalls(calls_pb2.WatchCallsRequest()):
            if event.WhichOneof("event") == "call" and self._user in getattr(event.call, "from"):
                self.story.call_id = event.call_id
            if event.call_id == self.story.call_id:
                self.story.take(event)
