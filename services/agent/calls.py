"""The Calls gRPC service: what the console and the command line see and do."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from services.agent.events import BargeIn, CallRecord, CallState, Caption, Dtmf, Happening, TurnTimes
from services.agent.legs.base import LegKind
from services.agent.switchboard import Switchboard
from services.common.errors import AtCapacityError, UnknownIdError
from trunkline.v1 import calls_pb2, calls_pb2_grpc

SERVICE = "trunkline.v1.Calls"

_LEGS = {LegKind.SIP: calls_pb2.LEG_SIP, LegKind.WEBRTC: calls_pb2.LEG_WEBRTC}
_STATES = {
    CallState.RINGING: calls_pb2.CALL_STATE_RINGING,
    CallState.LIVE: calls_pb2.CALL_STATE_LIVE,
    CallState.ENDED: calls_pb2.CALL_STATE_ENDED,
}

Context = grpc.aio.ServicerContext[Any, Any]


class CallsServicer(calls_pb2_grpc.CallsServicer):
    """Calls over gRPC; see protos/trunkline/v1/calls.proto."""

    def __init__(self, switchboard: Switchboard) -> None:
        self._switchboard = switchboard

    async def Info(  # noqa: N802
        self, request: calls_pb2.CallsInfoRequest, context: Context
    ) -> calls_pb2.CallsInfoResponse:
        """What this agent can do."""
        slots = self._switchboard.slots
        return calls_pb2.CallsInfoResponse(
            agent_id=self._switchboard.agent_id,
            capacity=slots.capacity,
            active=slots.active,
            draining=slots.draining,
        )

    async def ListCalls(  # noqa: N802
        self, request: calls_pb2.ListCallsRequest, context: Context
    ) -> calls_pb2.ListCallsResponse:
        """Ringing and live calls."""
        return calls_pb2.ListCallsResponse(calls=[_call(call.record) for call in self._switchboard.calls])

    async def WatchCalls(  # noqa: N802
        self, request: calls_pb2.WatchCallsRequest, context: Context
    ) -> AsyncIterator[calls_pb2.WatchCallsResponse]:
        """Records of the calls there are, then events as they come."""
        with self._switchboard.around.bus.watch() as watcher:
            records = [call.record for call in self._switchboard.calls]
            if request.call_id:
                records = [record for record in records if record.call_id == request.call_id]
                if not records:
                    raise UnknownIdError(f"no live call {request.call_id!r}")
            for record in records:
                for response in _responses(Happening(record.call_id, record)):
                    yield response
            async for happening in watcher:
                if request.call_id and happening.call_id != request.call_id:
                    continue
                for response in _responses(happening):
                    yield response
                if request.call_id and _is_end(happening):
                    return
            if watcher.lagged:
                raise AtCapacityError("this watcher reads too slowly; watch again")

    async def HangUp(  # noqa: N802
        self, request: calls_pb2.HangUpRequest, context: Context
    ) -> calls_pb2.HangUpResponse:
        """Ends a call."""
        await self._switchboard.hang_up(request.call_id)
        return calls_pb2.HangUpResponse()

    async def Transfer(  # noqa: N802
        self, request: calls_pb2.TransferRequest, context: Context
    ) -> calls_pb2.TransferResponse:
        """Transfers a call."""
        await self._switchboard.transfer(request.call_id, request.target)
        return calls_pb2.TransferResponse()

    async def Say(self, request: calls_pb2.SayRequest, context: Context) -> calls_pb2.SayResponse:  # noqa: N802
        """Has the bot say a text."""
        self._switchboard.say(request.call_id, request.text)
        return calls_pb2.SayResponse()

    async def SendDtmf(  # noqa: N802
        self, request: calls_pb2.SendDtmfRequest, context: Context
    ) -> calls_pb2.SendDtmfResponse:
        """Sends keys."""
        await self._switchboard.send_dtmf(request.call_id, request.digits)
        return calls_pb2.SendDtmfResponse()

    async def Dial(self, request: calls_pb2.DialRequest, context: Context) -> calls_pb2.DialResponse:  # noqa: N802
        """Calls a number."""
        return calls_pb2.DialResponse(call_id=await self._switchboard.dial(request.target, request.persona))


def _timestamp(unix: float) -> Timestamp:
    seconds = int(unix)
    return Timestamp(seconds=seconds, nanos=int((unix - seconds) * 1e9))


def _call(record: CallRecord) -> calls_pb2.Call:
    call = calls_pb2.Call(
        call_id=record.call_id,
        leg=_LEGS[record.leg],
        state=_STATES[record.state],
        to=record.to,
        persona=record.persona,
        started=_timestamp(record.started),
        end_reason=record.end_reason,
    )
    setattr(call, "from", record.from_)  # a keyword in Python
    return call


def _is_end(happening: Happening) -> bool:
    return isinstance(happening.event, CallRecord) and happening.event.state is CallState.ENDED


def _responses(happening: Happening) -> list[calls_pb2.WatchCallsResponse]:
    """One, or none for events that are only for the caller's own screen."""
    response = calls_pb2.WatchCallsResponse(time=_timestamp(happening.time), call_id=happening.call_id)
    match happening.event:
        case CallRecord() as record:
            response.call.CopyFrom(_call(record))
        case Caption(turn=turn, text=text, is_final=is_final):
            response.caption.CopyFrom(calls_pb2.Caption(turn=turn, text=text, is_final=is_final))
        case TurnTimes(turn=turn, stages=stages):
            waterfall = [calls_pb2.Stage(name=name, end_ms=end_ms) for name, end_ms in stages.items()]
            response.turn.CopyFrom(calls_pb2.Turn(turn=turn, stages=waterfall))
        case BargeIn(turn=turn, tokens_heard=tokens):
            response.barge_in.CopyFrom(calls_pb2.BargeIn(turn=turn, tokens_heard=tokens))
        case Dtmf(digit=digit):
            response.dtmf.CopyFrom(calls_pb2.Dtmf(digit=digit))
        case _:
            return []
    return [response]
