"""Listening in over HTTP."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field
from starlette.types import Message, Send

from services.agent.api.access import OperatorKey, ViewerKey
from services.agent.api.answers import problems
from services.agent.api.calls import CallId
from services.agent.api.keys import ApiKey
from services.agent.state.listeners import Listened
from services.agent.supervision.desk import ListeningDesk
from services.agent.supervision.earpiece import Earpiece
from services.agent.supervision.listening_in import RATE

AUDIO = f"audio/L16;rate={RATE};channels=2"  # RFC 2586: highest byte first
STALLED_S = 10.0  # a listener who takes nothing for so long is gone
_AUDIO: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "the caller left, the bot right; until the call ends",
        "content": {AUDIO: {"schema": {"type": "string", "format": "binary"}}},
    }
}


class ListenerBody(BaseModel):
    """Somebody who listened in."""

    who: str = Field(description="name of their key")
    agent: str
    began: datetime
    ended: datetime | None = Field(description="none while they listen, or when the agent died meanwhile")

    @classmethod
    def of(cls, listened: Listened) -> "ListenerBody":
        """From what is stored."""
        ended = datetime.fromtimestamp(listened.ended, UTC) if listened.ended is not None else None
        return cls(
            who=listened.who, agent=listened.agent, began=datetime.fromtimestamp(listened.began, UTC), ended=ended
        )


class Listeners(BaseModel):
    """Who listened in on a call, the first one first."""

    call_id: str
    listeners: list[ListenerBody]


class AudioResponse(StreamingResponse):
    """A stream of audio for somebody who keeps up with it, more or less."""

    media_type = AUDIO

    async def stream_response(self, send: Send) -> None:
        """Sends it; gives up on who takes nothing."""

        async def in_time(message: Message) -> None:
            async with asyncio.timeout(STALLED_S):
                await send(message)

        with contextlib.suppress(TimeoutError):
            await super().stream_response(in_time)


def listening_router(desk: ListeningDesk) -> APIRouter:
    """The operations on a call's audio."""
    router = APIRouter(tags=["calls"])

    async def heard(call_id: CallId, key: ApiKey = OperatorKey) -> AsyncIterator[Earpiece]:
        async with desk.listening(call_id, key.name) as earpiece:
            yield earpiece

    @router.get(
        "/calls/{call_id}/audio",
        response_class=AudioResponse,
        dependencies=[OperatorKey],
        responses={**problems(404, 409), **_AUDIO},
    )
    async def audio(earpiece: Annotated[Earpiece, Depends(heard)]) -> AudioResponse:
        """Listens in, from now to the call's end. Who does is written down and told to all who watch the call."""
        return AudioResponse(earpiece)

    @router.get("/calls/{call_id}/listeners", dependencies=[ViewerKey], responses=problems(404))
    async def listeners(call_id: CallId) -> Listeners:
        """Who listens in, or did."""
        found = await desk.listeners(call_id)
        return Listeners(call_id=call_id, listeners=[ListenerBody.of(one) for one in found])

    return router
