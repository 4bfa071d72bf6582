"""Events as messages for the caller's screen, in the shape of RTVI (https://docs.pipecat.ai/client/rtvi-standard)."""

import itertools
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime

from services.agent.events import BargeIn, CallerCaption, Caption, Event, Speaking, TurnTimes

LABEL = "rtvi-ai"
VERSION = "1.0.0"  # of RTVI; what newer versions add is optional
CLIENT_READY = "client-ready"
KEPT_CAPTIONS = 200  # for a screen that comes back empty


def bot_ready(message_id: str) -> dict[str, object]:
    """The answer to a client that says it is ready."""
    data = {"version": VERSION, "about": {"library": "trunkline"}}
    return {"label": LABEL, "type": "bot-ready", "id": message_id, "data": data}


class Screen:
    """Makes the messages of one call. Captions are sent piece by piece, and once more whole when complete.

    Args:
        now: wall clock.
    """

    def __init__(self, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._now = now
        self._ids = itertools.count(1)
        self._text = ""
        self._turn = 0  # of the text
        self._shown: deque[dict[str, object]] = deque(maxlen=KEPT_CAPTIONS)
        self._speaking = {"bot": False, "caller": False}

    def said_before(self, turn: int, text: str, interrupted: bool) -> None:
        """Takes a caption of the call that this one goes on with."""
        self._shown.append({"text": text, "turn": turn, "interrupted": interrupted})

    def messages(self, event: Event) -> list[dict[str, object]]:
        """What the screen is told about an event; nothing for events that it does not show."""
        match event:
            case Caption(turn=turn, is_final=True):
                text, self._text = self._text.strip(), ""
                if not text:
                    return []
                self._shown.append({"text": text, "turn": turn, "interrupted": False})
                return [self._message("bot-transcription", {"text": text, "turn": turn})]
            case Caption(turn=turn, text=text):
                self._text += text
                self._turn = turn
                return [self._message("bot-llm-text", {"text": text, "turn": turn})]
            case CallerCaption(turn=turn, text=text):
                said = {"text": text, "final": True, "timestamp": self._now().isoformat(), "user_id": "", "turn": turn}
                return [self._message("user-transcription", said)]
            case Speaking(who=who, on=on):
                self._speaking[who] = on
                return [self._speaks(who)]
            case TurnTimes(turn=turn, stages=stages):
                return [self._message("server-message", {"type": "turn-latency", "turn": turn, "stages": stages})]
            case BargeIn(turn=turn):
                self._cut(turn)
                return [self._message("server-message", {"type": "barge-in", "turn": turn})]
        return []

    def again(self) -> list[dict[str, object]]:
        """All that a screen must know which has just come back: what was said, and who is speaking."""
        captions = [*self._shown]
        if self._text:
            captions.append({"text": self._text, "turn": self._turn, "interrupted": False, "unfinished": True})
        resumed = self._message("server-message", {"type": "resumed", "captions": captions})
        return [resumed, *(self._speaks(who) for who, on in self._speaking.items() if on)]

    def _speaks(self, who: str) -> dict[str, object]:
        said = "started" if self._speaking[who] else "stopped"
        return self._message(f"{'bot' if who == 'bot' else 'user'}-{said}-speaking")

    def _cut(self, turn: int) -> None:
        """What the bot was saying ends here: the text so far, or the last one when all of it was there already."""
        if self._text:
            self._shown.append({"text": self._text.strip(), "turn": turn, "interrupted": True})
        elif self._shown and self._shown[-1]["turn"] == turn:
            self._shown[-1]["interrupted"] = True
        self._text = ""

    def _message(self, kind: str, data: dict[str, object] | None = None) -> dict[str, object]:
        message: dict[str, object] = {"label": LABEL, "type": kind, "id": str(next(self._ids))}
        if data is not None:
            message["data"] = data
        return message
