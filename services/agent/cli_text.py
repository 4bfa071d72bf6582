"""Calls and their events as lines of text."""

from collections import defaultdict

from trunkline.v1 import calls_pb2


def row(call: calls_pb2.Call) -> str:
    """A call's record: id, state, leg, from, to, persona, and what became of it."""
    fields = [
        call.call_id,
        _word(calls_pb2.CallState.Name(call.state), "CALL_STATE_"),
        _word(calls_pb2.Leg.Name(call.leg), "LEG_"),
        getattr(call, "from"),
        call.to,
        call.persona,
    ]
    return "  ".join([*fields, *filter(None, (outcome(call), call.end_reason))])


def outcome(call: calls_pb2.Call) -> str:
    """What became of a placed call, like `refused (404)`; empty while nothing has."""
    if not call.outcome:
        return ""
    word = _word(calls_pb2.DialOutcome.Name(call.outcome), "DIAL_OUTCOME_")
    return f"{word} ({call.sip_status})" if call.sip_status else word


class Story:
    """Events in one line each; the bot's text once it is whole."""

    def __init__(self) -> None:
        self._texts: defaultdict[tuple[str, int], str] = defaultdict(str)

    def line(self, event: calls_pb2.WatchCallsResponse) -> str:
        """What an event says; empty when it says nothing yet."""
        match event.WhichOneof("event"):
            case "call":
                state = _word(calls_pb2.CallState.Name(event.call.state), "CALL_STATE_")
                return f"call {state}: {event.call.end_reason}" if event.call.end_reason else f"call {state}"
            case "caption":
                return self._caption(event.call_id, event.caption)
            case "turn":
                stages = ", ".join(f"{stage.name} {stage.end_ms:.0f} ms" for stage in event.turn.stages)
                return f"turn {event.turn.turn}: {stages}"
            case "barge_in":
                return f"the caller interrupted turn {event.barge_in.turn}"
            case "dtmf":
                return f"key {event.dtmf.digit}"
            case "action_started":
                return f"action {event.action_started.name} started"
            case "action_done":
                word = _word(calls_pb2.ActionOutcome.Name(event.action_done.outcome), "ACTION_OUTCOME_")
                return f"action {event.action_done.name}: {word}"
            case _:
                return ""

    def _caption(self, call_id: str, caption: calls_pb2.Caption) -> str:
        key = (call_id, caption.turn)
        self._texts[key] += caption.text
        if not caption.is_final:
            return ""
        text = " ".join(self._texts.pop(key).split())
        return f"the bot: {text}" if text else ""


def _word(name: str, prefix: str) -> str:
    return name.removeprefix(prefix).replace("_", " ").lower()
