"""Events as messages for the caller's screen, in the shape of RTVI (https://docs.pipecat.ai/client/rtvi-standard)."""

import itertools

from services.agent.events import BargeIn, Caption, Event, Speaking, TurnTimes

LABEL = "rtvi-ai"


class Screen:
    """Makes the messages of one call. Captions are sent piece by piece, and once more whole when complete."""

    def __init__(self) -> None:
        self._ids = itertools.count(1)
        self._text = ""

    def messages(self, event: Event) -> list[dict[str, object]]:
        """What the screen is told about an event; nothing for events that it does not show."""
        match event:
            case Caption(turn=turn, is_final=True):
                text, self._text = self._text, ""
                return [self._message("bot-transcription", {"text": text.strip(), "turn": turn})] if text else []
            case Caption(turn=turn, text=text):
                self._text += text
                return [self._message("bot-llm-text", {"text": text, "turn": turn})]
            case Speaking(who="bot", on=on):
                return [self._message("bot-started-speaking" if on else "bot-stopped-speaking")]
            case Speaking(on=on):
                return [self._message("user-started-speaking" if on else "user-stopped-speaking")]
            case TurnTimes(turn=turn, stages=stages):
                return [self._message("server-message", {"type": "turn-latency", "turn": turn, "stages": stages})]
            case BargeIn(turn=turn):
                self._text = ""
                return [self._message("server-message", {"type": "barge-in", "turn": turn})]
        return []

    def _message(self, kind: str, data: dict[str, object] | None = None) -> dict[str, object]:
        message: dict[str, object] = {"label": LABEL, "type": kind, "id": str(next(self._ids))}
        if data is not None:
            message["data"] = data
        return message
