"""The runner with a leg, a voice and an HTTP client that only take notes."""

import asyncio
from collections.abc import Callable

import pytest

from services.agent.actions import runner as runners
from services.agent.actions.config import Action, HangUp, SendDtmf, Transfer, Webhook
from services.agent.actions.runner import HANG_UP_REASON, ActionRunner
from services.agent.actions.webhook import Notice, WebhookError, WebhookTimeoutError
from services.agent.events import (
    ActionDone,
    ActionOutcome,
    ActionStarted,
    AnswerBegan,
    AnswerOver,
    Caption,
    Event,
    Speaking,
)
from services.agent.legs.base import LegError, UnsupportedByLegError
from services.agent.personas import Persona

BYE = HangUp(name="bye", kind="hang_up", phrases=("goodbye",), keys="9")
PERSON = Transfer(name="person", kind="transfer", phrases=("connect you",), keys="0", target="100")
TONES = SendDtmf(name="tones", kind="send_dtmf", phrases=("open the door",), digits="5#")
NOTE = Webhook(name="note", kind="webhook", phrases=("noted",), keys="...#", url="http://a.example", failure="Sorry.")


class Desk:
    """Everything around the runner."""

    def __init__(self) -> None:
        self.did: list[str] = []
        self.events: list[Event] = []
        self.notices: list[Notice] = []
        self.now = 0.0
        self.failure: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()

    def say(self, text: str) -> None:
        self.did.append(f"say {text}")

    def interrupt(self) -> None:
        self.did.append("interrupt")

    async def transfer(self, target: str) -> None:
        await self._do(f"transfer {target}")

    async def send_dtmf(self, digits: str) -> None:
        await self._do(f"dtmf {digits}")

    async def send(self, webhook: Webhook, notice: Notice, key: str) -> str:
        self.notices.append(notice)
        await self._do(f"send {key}")
        return "It is done."

    async def _do(self, what: str) -> None:
        self.did.append(what)
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure

    def outcomes(self) -> list[tuple[str, ActionOutcome]]:
        return [(event.name, event.outcome) for event in self.events if isinstance(event, ActionDone)]

    def started(self) -> list[str]:
        return [event.name for event in self.events if isinstance(event, ActionStarted)]


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.setattr(runners, "AFTER_SPEECH_S", 0.0)
    return Desk()


def runner(desk: Desk, *actions: Action) -> ActionRunner:
    persona = Persona(name="p", prompt="x", actions=actions, key_pause_s=0.5)
    hang_up: Callable[[str], None] = lambda reason: desk.did.append(f"hang up: {reason}")  # noqa: E731
    return ActionRunner("c", persona, desk, desk, hang_up, desk, desk.events.append, lambda: desk.now)  # type: ignore[arg-type]


def answer(running: ActionRunner, text: str, heard: bool = True, turn: int = 1) -> None:
    running.take(AnswerBegan(turn, announcement=False))
    running.take(Caption(turn, text, is_final=False))
    running.take(Caption(turn, "", is_final=True))
    running.take(Speaking("bot", on=True))
    running.take(AnswerOver(turn, heard))


async def settled(desk: Desk, count: int) -> None:
    async with asyncio.timeout(10):
        while len(desk.outcomes()) < count:
            await asyncio.sleep(0)
    await asyncio.sleep(0)


async def test_each_kind_does_what_it_says(desk: Desk) -> None:
    running = runner(desk, BYE, PERSON, TONES, NOTE)
    for text in ("I connect you.", "I open the door.", "It is noted.", "Goodbye."):
        answer(running, text)
        await settled(desk, len(desk.did))
    await settled(desk, 4)
    assert desk.did == ["transfer 100", "dtmf 5#", "send c-1", "say It is done.", f"hang up: {HANG_UP_REASON}"]
    assert desk.started() == ["person", "tones", "note", "bye"]
    assert {outcome for _, outcome in desk.outcomes()} == {ActionOutcome.DONE}
    assert desk.notices == [Notice("c", "p", "note", 1, "It is noted.", "")]


async def test_an_interrupted_goodbye_does_not_hang_up(desk: Desk) -> None:
    running = runner(desk, BYE)
    answer(running, "Goodbye.", heard=False)
    await settled(desk, 1)
    assert desk.outcomes() == [("bye", ActionOutcome.CANCELLED)]
    assert not desk.started()
    assert not desk.did


@pytest.mark.parametrize(
    ("failure", "outcome"),
    [
        (UnsupportedByLegError("a WebRTC call cannot be transferred"), ActionOutcome.UNSUPPORTED),
        (LegError("refused"), ActionOutcome.FAILED),
        (RuntimeError("a defect"), ActionOutcome.FAILED),
    ],
)
async def test_a_transfer_that_fails_is_said_and_told(desk: Desk, failure: Exception, outcome: ActionOutcome) -> None:
    desk.failure = failure
    answer(runner(desk, PERSON), "I connect you.")
    await settled(desk, 1)
    assert desk.outcomes() == [("person", outcome)]
    assert desk.did == ["transfer 100", f"say {PERSON.failure}"]


async def test_without_a_target_nobody_is_asked(desk: Desk) -> None:
    answer(runner(desk, PERSON.model_copy(update={"target": ""})), "I connect you.")
    await settled(desk, 1)
    assert desk.outcomes() == [("person", ActionOutcome.UNSUPPORTED)]
    assert desk.did == [f"say {PERSON.failure}"]


@pytest.mark.parametrize(
    ("failure", "outcome"),
    [(WebhookError("HTTP 500"), ActionOutcome.FAILED), (WebhookTimeoutError("no"), ActionOutcome.TIMED_OUT)],
)
@pytest.mark.parametrize("text", ["Sorry.", ""])
async def test_a_webhook_that_fails_is_said_where_the_persona_wants_it(
    desk: Desk, failure: Exception, outcome: ActionOutcome, text: str
) -> None:
    desk.failure = failure
    answer(runner(desk, NOTE.model_copy(update={"failure": text})), "Noted.")
    await settled(desk, 1)
    assert desk.outcomes() == [("note", outcome)]
    assert desk.did == ["send c-1", *([f"say {text}"] if text else [])]


async def test_what_is_under_way_is_not_begun_again(desk: Desk) -> None:
    desk.gate.clear()
    running = runner(desk, NOTE)
    answer(running, "Noted.")
    await asyncio.sleep(0)
    answer(running, "Noted.", turn=2)
    desk.gate.set()
    await settled(desk, 1)
    answer(running, "Noted.", turn=3)
    await settled(desk, 2)
    assert [notice.turn for notice in desk.notices] == [1, 3]


async def test_keys_act_at_once_and_cut_the_bot_short_where_the_call_ends(desk: Desk) -> None:
    running = runner(desk, BYE, PERSON, NOTE)
    for key in "471#":
        running.key(key)
    await settled(desk, 1)
    assert desk.notices == [Notice("c", "p", "note", 0, "", "471#")]
    desk.did.clear()
    running.key("0")
    desk.now += 1.0
    running.key("9")  # 0 may still become an entry, until a pause
    desk.now += 1.0
    async with asyncio.timeout(10):
        while len(desk.outcomes()) < 3:
            await asyncio.sleep(0.02)
    assert desk.did == ["interrupt", "transfer 100", "interrupt", f"hang up: {HANG_UP_REASON}"]
    await running.close(0.0)


async def test_the_end_of_a_call_waits_a_little_for_what_is_under_way(desk: Desk) -> None:
    running = runner(desk, NOTE)
    desk.gate.clear()
    answer(running, "Noted.")
    await asyncio.sleep(0)
    closing = asyncio.create_task(running.close(30.0))
    await asyncio.sleep(0)
    desk.gate.set()
    await closing
    assert desk.outcomes() == [("note", ActionOutcome.DONE)]
    assert desk.did == ["send c-1"], "there is nobody left to hear the reply's text"


async def test_what_does_not_finish_is_cancelled_and_nothing_is_begun_after_the_end(desk: Desk) -> None:
    running = runner(desk, TONES, NOTE, PERSON)
    desk.gate.clear()
    answer(running, "I open the door.")
    await asyncio.sleep(0)
    answer(running, "I connect you.", turn=2)
    running.stop()
    answer(running, "Noted.", turn=3)
    running.key("0")
    await running.close(0.05)
    assert set(desk.outcomes()) == {("person", ActionOutcome.CANCELLED), ("tones", ActionOutcome.CANCELLED)}
    assert desk.started() == ["tones"]
    assert desk.did == ["dtmf 5#"]


async def test_without_actions_keys_and_words_mean_nothing(desk: Desk) -> None:
    running = runner(desk)
    running.key("1")
    answer(running, "Goodbye.")
    await running.close(0.0)
    assert not desk.did
    assert not desk.events
