import pytest

from services.agent.events import KEPT, WATCHER_BACKLOG, BargeIn, Caption, Dtmf, EventBus, Speaking, TurnTimes
from services.agent.rtvi import Screen


async def test_watchers_see_events_from_their_start_on_and_in_order() -> None:
    bus = EventBus()
    bus.publish("a", Dtmf("0"))
    with bus.watch() as watcher:
        bus.publisher("a")(Dtmf("1"))
        bus.publish("b", Dtmf("2"))
        bus.close()
        seen = [(happening.call_id, happening.event) async for happening in watcher]
    assert seen == [("a", Dtmf("1")), ("b", Dtmf("2"))]


async def test_a_watcher_that_does_not_read_is_cut_off_and_the_others_are_not() -> None:
    bus = EventBus()
    with bus.watch() as slow:
        for _ in range(WATCHER_BACKLOG):
            bus.publish("a", Dtmf("1"))
        with bus.watch() as quick:
            bus.publish("a", Dtmf("2"))
            assert slow.lagged
            assert not quick.lagged
            assert (await anext(aiter(quick))).event == Dtmf("2")
        assert len([happening async for happening in slow]) == WATCHER_BACKLOG


async def test_a_watcher_that_left_gets_nothing() -> None:
    bus = EventBus()
    with bus.watch() as watcher:
        pass
    bus.publish("a", Dtmf("1"))
    assert [happening async for happening in watcher] == []


def test_who_comes_back_is_told_what_they_missed() -> None:
    bus = EventBus("epoch")
    with bus.watch() as watcher:
        for digit in "123":
            bus.publish("a" if digit != "2" else "b", Dtmf(digit))
        assert watcher.lagged is False
    (first, *_) = bus.since("epoch-0") or []
    assert bus.place(first) == "epoch-1"
    assert [one.event for one in bus.since("epoch-1") or []] == [Dtmf("2"), Dtmf("3")]
    assert bus.since("epoch-3") == []
    assert [one.event for one in bus.recent("b")] == [Dtmf("2")]
    for wrong in ("other-1", "epoch-4", "epoch-", "epoch--1", "epoch", ""):
        assert bus.since(wrong) is None, wrong


def test_what_is_no_longer_known_is_not_told_in_part() -> None:
    bus = EventBus("epoch")
    for _ in range(KEPT + 1):
        bus.publish("a", Dtmf("1"))
    assert bus.since("epoch-0") is None
    assert len(bus.since("epoch-1") or []) == KEPT


def test_a_bus_knows_whether_anyone_watches() -> None:
    bus = EventBus()
    assert not bus.watched
    with bus.watch():
        assert bus.watched
    assert not bus.watched


def test_captions_come_piece_by_piece_and_once_whole() -> None:
    screen = Screen()
    messages = []
    for caption in (Caption(1, "Good ", False), Caption(1, "day.", False), Caption(1, "", True)):
        messages += screen.messages(caption)
    assert [(message["type"], message["data"]) for message in messages] == [
        ("bot-llm-text", {"text": "Good ", "turn": 1}),
        ("bot-llm-text", {"text": "day.", "turn": 1}),
        ("bot-transcription", {"text": "Good day.", "turn": 1}),
    ]
    assert {message["label"] for message in messages} == {"rtvi-ai"}
    assert len({message["id"] for message in messages}) == 3
    assert screen.messages(Caption(2, "", True)) == [], "an answer without text has no caption"


def test_the_text_of_an_interrupted_answer_does_not_run_into_the_next() -> None:
    screen = Screen()
    screen.messages(Caption(1, "We are op", False))
    (message,) = screen.messages(BargeIn(1, 7))
    assert message["data"] == {"type": "barge-in", "turn": 1}
    screen.messages(Caption(2, "Twelve.", False))
    (whole,) = screen.messages(Caption(2, "", True))
    assert whole["data"] == {"text": "Twelve.", "turn": 2}


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        (Speaking("bot", True), "bot-started-speaking"),
        (Speaking("bot", False), "bot-stopped-speaking"),
        (Speaking("caller", True), "user-started-speaking"),
        (Speaking("caller", False), "user-stopped-speaking"),
        (TurnTimes(3, {"first_packet": 512.0}), "server-message"),
    ],
)
def test_each_event_has_its_message(event: Speaking | TurnTimes, kind: str) -> None:
    (message,) = Screen().messages(event)
    assert message["type"] == kind


def test_keys_are_not_shown() -> None:
    assert Screen().messages(Dtmf("5")) == []
