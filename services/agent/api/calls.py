"""Calls over HTTP: what the Calls gRPC service does, for whoever speaks JSON."""

from collections.abc import AsyncIterator
from dataclasses import asdict
from enum import Enum
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel, ConfigDict, Field

from services.agent.api.access import OperatorKey, ViewerKey
from services.agent.api.answers import CallBody, EntryBody, problems
from services.agent.call_desk import CallDesk
from services.agent.events import INTERNAL, CallRecord, Happening
from services.agent.outbound.placed import OnMachine
from services.common.errors import AtCapacityError
from services.common.grpc_server import Slots

MAX_STREAMS = 64  # of events at once

CallId = Annotated[str, Path(max_length=64)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class CallsBody(BaseModel):
    """Calls of this agent."""

    agent_id: str
    capacity: int
    active: int
    draining: bool
    calls: list[CallBody]


class Conversation(BaseModel):
    """What was said in a call so far."""

    call_id: str
    entries: list[EntryBody]


class Say(_Body):
    """A text for the bot to say."""

    text: str = Field(min_length=1, max_length=500)


class Transfer(_Body):
    """Where to."""

    target: str = Field(min_length=1, max_length=300, description="a SIP URI, or a number at the caller's own domain")


class Keys(_Body):
    """Keys to send."""

    digits: str = Field(min_length=1, max_length=64, description="0-9, *, #, A-D")


class Machine(Enum):
    """What to do when an answering machine answers."""

    IGNORE = "ignore"
    HANG_UP = "hang_up"
    LEAVE_TEXT = "leave_text"


class Dial(_Body):
    """A call to place."""

    target: str = Field(min_length=1, max_length=300, description="a SIP URI, or a number for the first trunk")
    persona: str = Field("", max_length=64, description="who calls; empty: the agent's default")
    ring_timeout_s: float = Field(0.0, ge=0, le=180, description="0: the agent's own")
    greet_after_s: float = Field(0.0, ge=0, le=10, description="silence until the bot speaks first; 0: 2 s")
    on_machine: Machine = Machine.IGNORE
    text: str = Field("", max_length=500, description="for leave_text: said after the beep")


class Dialled(BaseModel):
    """The call, while it rings."""

    call_id: str


_ON_MACHINE = {
    Machine.IGNORE: OnMachine.IGNORE,
    Machine.HANG_UP: OnMachine.HANG_UP,
    Machine.LEAVE_TEXT: OnMachine.LEAVE_TEXT,
}


def calls_router(desk: CallDesk) -> APIRouter:
    """The operations under `/calls`, and `/events`."""
    router = APIRouter(tags=["calls"])
    switchboard = desk.switchboard

    @router.get("/calls", dependencies=[ViewerKey], responses=problems())
    async def list_calls() -> CallsBody:
        """Ringing and live calls of this agent."""
        slots = switchboard.slots
        return CallsBody(
            agent_id=switchboard.agent_id,
            capacity=slots.capacity,
            active=slots.active,
            draining=slots.draining,
            calls=[CallBody.of(record) for record in desk.live()],
        )

    @router.post("/calls", status_code=201, dependencies=[OperatorKey], responses=problems(409, 422))
    async def dial(body: Dial, response: Response) -> Dialled:
        """Places a call, and answers while it rings; what becomes of it is told by its record."""
        call_id = await desk.dial(
            body.target,
            body.persona,
            body.ring_timeout_s,
            body.greet_after_s,
            _ON_MACHINE[body.on_machine],
            body.text,
        )
        response.headers["Location"] = f"calls/{call_id}"
        return Dialled(call_id=call_id)

    @router.get("/calls/{call_id}", dependencies=[ViewerKey], responses=problems(404))
    async def get_call(call_id: CallId) -> CallBody:
        """One call, live or ended, of any agent of this system."""
        return CallBody.of(await switchboard.record(call_id))

    @router.delete("/calls/{call_id}", status_code=204, dependencies=[OperatorKey], responses=problems(404))
    async def hang_up(call_id: CallId) -> None:
        """Ends a call, or cancels one that still rings; answers when it is over."""
        await switchboard.hang_up(call_id)

    @router.get("/calls/{call_id}/conversation", dependencies=[ViewerKey], responses=problems(404))
    async def conversation(call_id: CallId) -> Conversation:
        """What was said so far, in order."""
        entries = await desk.conversation(call_id)
        return Conversation(call_id=call_id, entries=[EntryBody.of(entry) for entry in entries])

    @router.post("/calls/{call_id}/say", status_code=204, dependencies=[OperatorKey], responses=problems(404, 422))
    async def say(call_id: CallId, body: Say) -> None:
        """Has the bot say a text, after what it is saying now."""
        switchboard.say(call_id, body.text)

    @router.post(
        "/calls/{call_id}/transfer", status_code=204, dependencies=[OperatorKey], responses=problems(404, 409, 422)
    )
    async def transfer(call_id: CallId, body: Transfer) -> None:
        """Transfers a call blindly."""
        await switchboard.transfer(call_id, body.target)

    @router.post(
        "/calls/{call_id}/dtmf", status_code=204, dependencies=[OperatorKey], responses=problems(404, 409, 422)
    )
    async def dtmf(call_id: CallId, body: Keys) -> None:
        """Sends keys to the far end."""
        await switchboard.send_dtmf(call_id, body.digits)

    streams = Slots(MAX_STREAMS, "event streams")

    async def watched(
        call_id: Annotated[str, Query(max_length=64, description="of the only call to watch")] = "",
    ) -> AsyncIterator[AsyncIterator[Happening]]:
        with streams.take(), desk.watching(call_id) as happenings:
            yield happenings

    @router.get("/events", response_class=EventSourceResponse, dependencies=[ViewerKey], responses=problems(404))
    async def events(
        happenings: Annotated[AsyncIterator[Happening], Depends(watched)],
    ) -> AsyncIterator[ServerSentEvent]:
        """Server-sent events: records of the calls there are, then what happens, until the call ends or the agent does.

        Names of events: `call`, `Caption`, `TurnTimes`, `BargeIn`, `Dtmf`, `ActionStarted`, `ActionDone`; `lagged` ends
        a stream that was read too slowly.
        """
        try:
            async for happening in happenings:
                if not isinstance(happening.event, INTERNAL):
                    yield _event(happening)
        except AtCapacityError as error:
            yield ServerSentEvent(event="lagged", data={"detail": str(error)})

    return router


def _event(happening: Happening) -> ServerSentEvent:
    event = happening.event
    if isinstance(event, CallRecord):
        name, content = "call", CallBody.of(event).model_dump(mode="json", by_alias=True)
    else:
        name, content = type(event).__name__, _plain(event)
    return ServerSentEvent(event=name, data={"call_id": happening.call_id, "time": happening.time, **content})


def _plain(event: Any) -> dict[str, Any]:
    return {key: value.value if isinstance(value, Enum) else value for key, value in asdict(event).items()}
