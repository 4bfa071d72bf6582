from services.agent.cli_text import Story, outcome, row
from trunkline.v1 import calls_pb2


def test_a_row_tells_what_became_of_a_call() -> None:
    call = calls_pb2.Call(
        call_id="7", leg=calls_pb2.LEG_SIP, state=calls_pb2.CALL_STATE_ENDED, to="sip:b@b.example", persona="default",
        end_reason="refused: 404", placed=True, outcome=calls_pb2.DIAL_OUTCOME_REFUSED, sip_status=404,
    )  # fmt: skip
    setattr(call, "from", "sip:a@a.example")
    assert row(call) == "7  ended  sip  sip:a@a.example  sip:b@b.example  default  refused (404)  refused: 404"
    assert outcome(calls_pb2.Call(outcome=calls_pb2.DIAL_OUTCOME_NO_ANSWER)) == "no answer"
    assert outcome(calls_pb2.Call()) == ""


def test_events_are_lines_and_texts_come_whole() -> None:
    story = Story()
    events = [
        calls_pb2.WatchCallsResponse(call=calls_pb2.Call(state=calls_pb2.CALL_STATE_LIVE)),
        calls_pb2.WatchCallsResponse(caption=calls_pb2.Caption(turn=1, text="We are ")),
        calls_pb2.WatchCallsResponse(caption=calls_pb2.Caption(turn=1, text="open.")),
        calls_pb2.WatchCallsResponse(caption=calls_pb2.Caption(turn=1, is_final=True)),
        calls_pb2.WatchCallsResponse(
            turn=calls_pb2.Turn(turn=1, stages=[calls_pb2.Stage(name="first_packet", end_ms=412.3)])
        ),
        calls_pb2.WatchCallsResponse(barge_in=calls_pb2.BargeIn(turn=1)),
        calls_pb2.WatchCallsResponse(dtmf=calls_pb2.Dtmf(digit="5")),
        calls_pb2.WatchCallsResponse(action_started=calls_pb2.ActionStarted(name="bye")),
        calls_pb2.WatchCallsResponse(
            action_done=calls_pb2.ActionDone(name="bye", outcome=calls_pb2.ACTION_OUTCOME_TIMED_OUT)
        ),
        calls_pb2.WatchCallsResponse(
            call=calls_pb2.Call(state=calls_pb2.CALL_STATE_ENDED, end_reason="caller hung up")
        ),
        calls_pb2.WatchCallsResponse(),
    ]
    assert [line for event in events if (line := story.line(event))] == [
        "call live",
        "the bot: We are open.",
        "turn 1: first_packet 412 ms",
        "the caller interrupted turn 1",
        "key 5",
        "action bye started",
        "action bye: timed out",
        "call ended: caller hung up",
    ]
