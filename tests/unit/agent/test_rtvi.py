from datetime import UTC, datetime
from typing import Any

from services.agent.events import BargeIn, CallerCaption, Caption, Speaking
from services.agent.rtvi import KEPT_CAPTIONS, Screen, bot_ready


def captions(screen: Screen) -> Any:
    first = screen.again()[0]
    assert first["type"] == "server-message"
    data: Any = first["data"]
    assert data["type"] == "resumed"
    return data["captions"]


def say(screen: Screen, turn: int, text: str, final: bool = True) -> None:
    for word in text.split():
        screen.messages(Caption(turn, f"{word} ", is_final=False))
    if final:
        screen.messages(Caption(turn, "", is_final=True))


def test_a_screen_that_comes_back_is_shown_what_was_said() -> None:
    screen = Screen()
    say(screen, 0, "Hello there.")
    say(screen, 1, "We are open")
    say(screen, 2, "The price", final=False)
    assert captions(screen) == [
        {"text": "Hello there.", "turn": 0, "interrupted": False},
        {"text": "We are open", "turn": 1, "interrupted": False},
        {"text": "The price ", "turn": 2, "interrupted": False, "unfinished": True},
    ]


def test_an_interrupted_answer_is_shown_as_far_as_it_went() -> None:
    screen = Screen()
    say(screen, 1, "We are", final=False)
    screen.messages(BargeIn(1, 10))
    say(screen, 2, "Yes.")
    screen.messages(BargeIn(2, 10))  # its text was complete, its sound was not
    assert captions(screen) == [
        {"text": "We are", "turn": 1, "interrupted": True},
        {"text": "Yes.", "turn": 2, "interrupted": True},
    ]


def test_it_is_told_who_is_speaking() -> None:
    screen = Screen()
    screen.messages(Speaking("bot", on=True))
    screen.messages(Speaking("caller", on=True))
    screen.messages(Speaking("caller", on=False))
    assert [message["type"] for message in screen.again()[1:]] == ["bot-started-speaking"]


def test_a_long_call_keeps_its_latest_captions() -> None:
    screen = Screen()
    for turn in range(KEPT_CAPTIONS + 5):
        say(screen, turn, f"Answer {turn}")
    kept = captions(screen)
    assert len(kept) == KEPT_CAPTIONS
    assert kept[-1]["text"] == f"Answer {KEPT_CAPTIONS + 4}"


def test_a_client_that_is_ready_is_answered_under_its_own_id() -> None:
    answer = bot_ready("7")
    assert (answer["type"], answer["id"], answer["label"]) == ("bot-ready", "7", "rtvi-ai")


def test_what_the_caller_said_is_told_as_rtvi_tells_it() -> None:
    screen = Screen(lambda: datetime(2026, 5, 1, 12, 0, tzinfo=UTC))
    (message,) = screen.messages(CallerCaption(3, "What are your opening hours?"))
    assert message["type"] == "user-transcription"
    assert message["data"] == {
        "text": "What are your opening hours?",
        "final": True,
        "timestamp": "2026-05-01T12:00:00+00:00",
        "user_id": "",
        "turn": 3,
    }
