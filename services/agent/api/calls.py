"""Calls over HTTP: what the Calls gRPC service does, for whoever speaks JSON."""

from collections.abc import AsyncIterator
from dataclasses import asdict
from enum import Enum
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Header, Path, Query, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel, ConfigDict, Field

from services.agent.api.access import OperatorKey, ViewerKey
from services.agent.api.answers import CallBody, EntryBody, problems
from services.agent.call_desk import CallDesk, Listed
from services.agent.events import INTERNAL, CallRecord, CallState, EventBus, Happening
from services.agent.outbound.placed import OnMachine
from services.common.errors import AtCapacityError
from services.common.grpc_server import Slots

MAX_STREAMS = 64  # of events at once

CallId = Annotated[str, Path(max_length=64)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class CallsBody(BaseModel):
    """Calls, of this agent or of all; the rest is about this agent."""

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

    async def here(call_id: CallId) -> str:
        """A call that this agent has: what follows can be done."""
        return (await desk.here(call_id)).call_id

    OurCall = Annotated[str, Depends(here)]  # noqa: N806  a type

    @router.get("/calls", dependencies=[ViewerKey], responses=problems())
    async def list_calls(
        scope: Annotated[Literal["agent", "all"], Query(description="of this agent, or of all on its Redis")] = "agent",
    ) -> CallsBody:
        """Ringing and live calls."""
        slots = switchboard.slots
        listed = await desk.live_anywhere() if scope == "all" else desk.live()
        return CallsBody(
            agent_id=switchboard.agent_id,
            capacity=slots.capacity,
            active=slots.active,
            draining=slots.draining,
            calls=[CallBody.of(one) for one in listed],
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
        return CallBody.of(await desk.call(call_id))

    @router.delete("/calls/{call_id}", status_code=204, dependencies=[OperatorKey], responses=problems(404, 409))
    async def hang_up(call_id: OurCall) -> None:
        """Ends a call, or cancels one that still rings; answers when it is over."""
        await switchboard.hang_up(call_id)

    @router.get("/calls/{call_id}/conversation", dependencies=[ViewerKey], responses=problems(404))
    async def conversation(call_id: CallId) -> Conversation:
        """What was said so far, in order."""
        entries = await desk.conversation(call_id)
        return Conversation(call_id=call_id, entries=[EntryBody.of(entry) for entry in entries])

    @router.post("/calls/{call_id}/say", status_code=204, dependencies=[OperatorKey], responses=problems(404, 409, 422))
    async def say(call_id: OurCall, body: Say) -> None:
        """Has the bot say a text, after what it is saying now."""
        switchboard.say(call_id, body.text)

    @router.post(
        "/calls/{call_id}/transfer", status_code=204, dependencies=[OperatorKey], responses=problems(404, 409, 422)
    )
    async def transfer(call_id: OurCall, body: Transfer) -> None:
        """Transfers a call blindly."""
        await switchboard.transfer(call_id, body.target)

    @router.post(
        "/calls/{call_id}/dtmf", status_code=204, dependencies=[OperatorKey], responses=problems(404, 409, 422)
    )
    async def dtmf(call_id: OurCall, body: Keys) -> None:
        """Sends keys to the far end."""
        await switchboard.send_dtmf(call_id, body.digits)

    streams = Slots(MAX_STREAMS, "event streams")

    async def watched(
        call_id: Annotated[str, Query(max_length=64, description="of the only call to watch")] = "",
        recent: Annotated[bool, Query(description="first, what the agent still knows of that call")] = False,
        last_event_id: Annotated[
            str, Header(max_length=64, description="id of the last event seen: what followed comes first")
        ] = "",
    ) -> AsyncIterator[AsyncIterator[Happening]]:
        if call_id and not switchboard.holds(call_id) and switchboard.around.bus.since(last_event_id) is None:
            await desk.here(call_id)
        with streams.take(), desk.watching(call_id, last_event_id, recent) as happenings:
            yield happenings

    @router.get("/events", response_class=EventSourceResponse, dependencies=[ViewerKey], responses=problems(404, 409))
    async def events(
        happenings: Annotated[AsyncIterator[Happening], Depends(watched)],
    ) -> AsyncIterator[ServerSentEvent]:
        """Server-sent events: records of the calls there are, then what happens, until the call ends or the agent does.

        Names of events: `call`, `Caption`, `Spoken`, `CallerCaption`, `TurnTimes`, `BargeIn`, `Dtmf`, `Transfer`,
        `Listening`, `Quality`, `ActionStarted`, `ActionDone`; `lagged` ends a stream that was read too slowly.
        """
        try:
            async for happening in happenings:
                if not isinstance(happening.event, INTERNAL):
                    yield _event(happening, switchboard.around.bus, switchboard.agent_id)
        except AtCapacityError as error:
            yield ServerSentEvent(event="lagged", data={"detail": str(error)})

    return router


def _event(happening: Happening, bus: EventBus, agent_id: str) -> ServerSentEvent:
    event = happening.event
    if isinstance(event, CallRecord):
        listed = Listed(event, agent_id, here=event.state is not CallState.ENDED)
        name, content = "call", CallBody.of(listed).model_dump(mode="json", by_alias=True)
    else:
        name, content = type(event).__name__, _plain(event)
    data = {"call_id": happening.call_id, "time": happening.time, **content}
    return ServerSentEvent(event=name, data=data, id=bus.place(happening))


def _plain(event: Any) -> dict[str, Any]:
    return {key: value.value if isinstance(value, Enum) else value for key, value in asdict(event).items()}
