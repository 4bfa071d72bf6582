"""The Calls gRPC service: what the console and the command line see and do."""

from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Any

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from services.agent.actions.config import ActionKind
from services.agent.call_desk import CallDesk
from services.agent.events import (
    ActionDone,
    ActionOutcome,
    ActionStarted,
    BargeIn,
    CallerCaption,
    CallRecord,
    CallState,
    Caption,
    Dtmf,
    Happening,
    Listening,
    Quality,
    Spoken,
    Stream,
    Transfer,
    TransferOutcome,
    TurnTimes,
)
from services.agent.legs.base import LegKind
from services.agent.outbound.outcome import DialOutcome
from services.agent.outbound.placed import OnMachine
from services.common.errors import InvalidInputError
from trunkline.v1 import calls_pb2, calls_pb2_grpc

SERVICE = "trunkline.v1.Calls"

_LEGS = {
    LegKind.SIP: calls_pb2.LEG_SIP,
    LegKind.WEBRTC: calls_pb2.LEG_WEBRTC,
    LegKind.CARRIER: calls_pb2.LEG_CARRIER,
}
_STATES = {
    CallState.RINGING: calls_pb2.CALL_STATE_RINGING,
    CallState.LIVE: calls_pb2.CALL_STATE_LIVE,
    CallState.ENDED: calls_pb2.CALL_STATE_ENDED,
}
_OUTCOMES = {
    DialOutcome.NONE: calls_pb2.DIAL_OUTCOME_UNSPECIFIED,
    DialOutcome.ANSWERED: calls_pb2.DIAL_OUTCOME_ANSWERED,
    DialOutcome.ANSWERING_MACHINE: calls_pb2.DIAL_OUTCOME_ANSWERING_MACHINE,
    DialOutcome.BUSY: calls_pb2.DIAL_OUTCOME_BUSY,
    DialOutcome.NO_ANSWER: calls_pb2.DIAL_OUTCOME_NO_ANSWER,
    DialOutcome.DECLINED: calls_pb2.DIAL_OUTCOME_DECLINED,
    DialOutcome.REFUSED: calls_pb2.DIAL_OUTCOME_REFUSED,
    DialOutcome.UNREACHABLE: calls_pb2.DIAL_OUTCOME_UNREACHABLE,
    DialOutcome.CANCELLED: calls_pb2.DIAL_OUTCOME_CANCELLED,
}
_ON_MACHINE = {
    calls_pb2.ON_MACHINE_UNSPECIFIED: OnMachine.IGNORE,
    calls_pb2.ON_MACHINE_IGNORE: OnMachine.IGNORE,
    calls_pb2.ON_MACHINE_HANG_UP: OnMachine.HANG_UP,
    calls_pb2.ON_MACHINE_LEAVE_TEXT: OnMachine.LEAVE_TEXT,
}
_ACTIONS = {
    ActionKind.TRANSFER.value: calls_pb2.ACTION_KIND_TRANSFER,
    ActionKind.HANG_UP.value: calls_pb2.ACTION_KIND_HANG_UP,
    ActionKind.SEND_DTMF.value: calls_pb2.ACTION_KIND_SEND_DTMF,
    ActionKind.WEBHOOK.value: calls_pb2.ACTION_KIND_WEBHOOK,
}
_ACTION_OUTCOMES = {
    ActionOutcome.DONE: calls_pb2.ACTION_OUTCOME_DONE,
    ActionOutcome.FAILED: calls_pb2.ACTION_OUTCOME_FAILED,
    ActionOutcome.TIMED_OUT: calls_pb2.ACTION_OUTCOME_TIMED_OUT,
    ActionOutcome.UNSUPPORTED: calls_pb2.ACTION_OUTCOME_UNSUPPORTED,
    ActionOutcome.CANCELLED: calls_pb2.ACTION_OUTCOME_CANCELLED,
}

_TRANSFERS = {
    TransferOutcome.STARTED: calls_pb2.TRANSFER_OUTCOME_STARTED,
    TransferOutcome.DONE: calls_pb2.TRANSFER_OUTCOME_DONE,
    TransferOutcome.FAILED: calls_pb2.TRANSFER_OUTCOME_FAILED,
}

Context = grpc.aio.ServicerContext[Any, Any]


class CallsServicer(calls_pb2_grpc.CallsServicer):
    """Calls over gRPC; see protos/trunkline/v1/calls.proto."""

    def __init__(self, desk: CallDesk) -> None:
        self._desk = desk
        self._switchboard = desk.switchboard

    async def Info(  # noqa: N802
        self, request: calls_pb2.CallsInfoRequest, context: Context
    ) -> calls_pb2.CallsInfoResponse:
        """What this agent can do."""
        slots = self._switchboard.slots
        return calls_pb2.CallsInfoResponse(
            agent_id=self._switchboard.agent_id,
            capacity=self._switchboard.capacity,
            active=slots.active,
            draining=slots.draining,
        )

    async def ListCalls(  # noqa: N802
        self, request: calls_pb2.ListCallsRequest, context: Context
    ) -> calls_pb2.ListCallsResponse:
        """Ringing and live calls."""
        return calls_pb2.ListCallsResponse(calls=[_call(one.record) for one in self._desk.live()])

    async def GetCall(  # noqa: N802
        self, request: calls_pb2.GetCallRequest, context: Context
    ) -> calls_pb2.GetCallResponse:
        """One call, live or ended."""
        return calls_pb2.GetCallResponse(call=_call((await self._desk.call(request.call_id)).record))

    async def WatchCalls(  # noqa: N802
        self, request: calls_pb2.WatchCallsRequest, context: Context
    ) -> AsyncIterator[calls_pb2.WatchCallsResponse]:
        """Records of the calls there are, then events as they come."""
        with self._desk.watching(request.call_id) as happenings:
            # Tells the client that it misses nothing from now on: a call that it dials may be refused at once.
            await context.send_initial_metadata(())
            async for happening in happenings:
                for response in _responses(happening):
                    yield response

    async def HangUp(  # noqa: N802
        self, request: calls_pb2.HangUpRequest, context: Context
    ) -> calls_pb2.HangUpResponse:
        """Ends a call."""
        await self._desk.here(request.call_id)
        await self._switchboard.hang_up(request.call_id)
        return calls_pb2.HangUpResponse()

    async def Transfer(  # noqa: N802
        self, request: calls_pb2.TransferRequest, context: Context
    ) -> calls_pb2.TransferResponse:
        """Transfers a call."""
        await self._desk.here(request.call_id)
        await self._switchboard.transfer(request.call_id, request.target)
        return calls_pb2.TransferResponse()

    async def Say(self, request: calls_pb2.SayRequest, context: Context) -> calls_pb2.SayResponse:  # noqa: N802
        """Has the bot say a text."""
        await self._desk.here(request.call_id)
        self._switchboard.say(request.call_id, request.text)
        return calls_pb2.SayResponse()

    async def SendDtmf(  # noqa: N802
        self, request: calls_pb2.SendDtmfRequest, context: Context
    ) -> calls_pb2.SendDtmfResponse:
        """Sends keys."""
        await self._desk.here(request.call_id)
        await self._switchboard.send_dtmf(request.call_id, request.digits)
        return calls_pb2.SendDtmfResponse()

    async def Dial(self, request: calls_pb2.DialRequest, context: Context) -> calls_pb2.DialResponse:  # noqa: N802
        """Calls a number."""
        if request.on_machine not in _ON_MACHINE:
            raise InvalidInputError(f"on_machine may be 0 to {max(_ON_MACHINE)} (given: {request.on_machine})")
        call_id = await self._desk.dial(
            request.target,
            request.persona,
            request.ring_timeout_s,
            request.greet_after_s,
            _ON_MACHINE[request.on_machine],
            request.machine_text,
        )
        return calls_pb2.DialResponse(call_id=call_id)

    async def PauseRecording(  # noqa: N802
        self, request: calls_pb2.PauseRecordingRequest, context: Context
    ) -> calls_pb2.PauseRecordingResponse:
        """Silence in the recording from now on."""
        await self._desk.here(request.call_id)
        self._switchboard.recording_of(request.call_id).pause()
        return calls_pb2.PauseRecordingResponse()

    async def ResumeRecording(  # noqa: N802
        self, request: calls_pb2.ResumeRecordingRequest, context: Context
    ) -> calls_pb2.ResumeRecordingResponse:
        """Ends the pause."""
        await self._desk.here(request.call_id)
        self._switchboard.recording_of(request.call_id).resume()
        return calls_pb2.ResumeRecordingResponse()


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
        placed=record.placed,
        outcome=_OUTCOMES[record.outcome],
        sip_status=record.sip_status,
    )
    setattr(call, "from", record.from_)  # a keyword in Python
    return call


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
        case ActionStarted(name=name, kind=kind):
            response.action_started.CopyFrom(calls_pb2.ActionStarted(name=name, kind=_ACTIONS[kind]))
        case ActionDone(name=name, kind=kind, outcome=outcome):
            done = calls_pb2.ActionDone(name=name, kind=_ACTIONS[kind], outcome=_ACTION_OUTCOMES[outcome])
            response.action_done.CopyFrom(done)
        case Spoken(turn=turn, answer=answer, text=text, done=over, interrupted=interrupted):
            spoken = calls_pb2.Spoken(turn=turn, answer=answer, text=text, done=over, interrupted=interrupted)
            response.spoken.CopyFrom(spoken)
        case CallerCaption(turn=turn, text=text):
            response.caller_caption.CopyFrom(calls_pb2.CallerCaption(turn=turn, text=text))
        case Transfer(target=target, outcome=how, detail=detail):
            transfer = calls_pb2.OperatorTransfer(target=target, outcome=_TRANSFERS[how], detail=detail)
            response.transfer.CopyFrom(transfer)
        case Listening(who=who, on=on):
            response.listening.CopyFrom(calls_pb2.Listening(who=who, on=on))
        case Quality() as quality:
            response.quality.CopyFrom(_quality(quality))
        case _:
            return []
    return [response]


def _quality(quality: Quality) -> calls_pb2.Quality:
    received, sent = _stream(quality.received), _stream(quality.sent)
    return calls_pb2.Quality(received=received, sent=sent, round_trip_s=quality.round_trip_s)


def _stream(stream: Stream | None) -> calls_pb2.StreamQuality | None:
    return calls_pb2.StreamQuality(**asdict(stream)) if stream is not None else None
