"""Callers on a line that is made up: what becomes of a call, whatever the far end does."""

import asyncio
import time
from collections.abc import Callable
from random import Random

import pytest

from loadtest.calls.conduct import Conductor
from loadtest.calls.ear import Ear
from loadtest.calls.line import FaultError, Losses, Mouth, NetworkError, RefusedError, Signalling
from loadtest.calls.record import Call, Outcome
from loadtest.faults import Faults
from loadtest.scenario.model import Command, Drop, Kill, Talk
from loadtest.scenario.plan import Moment, PlannedCall, PlannedTurn

PATIENT = Talk(pause_s=0.2, quiet_s=0.2, greeting_s=60, patience_s=60)
HOURS, GOODBYE = PlannedTurn("hours", 0.2), PlannedTurn("goodbye", 0.2)


class MadeUpLine:
    """Greets, and answers each question, as soon as it can.

    Args:
        called: what the call meets with.
        answers: what a question meets with; nothing: silence.
    """

    def __init__(self, called: Exception | None = None, answers: Callable[["MadeUpLine"], None] | None = None) -> None:
        self._called, self._answers = called, answers or MadeUpLine.speak
        self.ear = Ear("pcmu")
        self.mouth = Mouth()
        self.signalling = Signalling()
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.done: list[str] = []
        self.rings = 0.0
        self.fails_to_hang_up = False

    async def call(self) -> float:
        await asyncio.sleep(self.rings)
        if self._called is not None:
            raise self._called
        asyncio.get_running_loop().call_soon(self.speak)
        return time.monotonic()

    def speak(self) -> None:
        self.ear.hear(time.monotonic(), 0, 0, b"", True)

    def say(self, question: str) -> None:
        self.mouth.say((b"",))
        self.mouth.next(time.monotonic())
        asyncio.get_running_loop().call_later(0.01, self._answers, self)

    async def hold(self) -> None:
        self.done.append("hold")

    async def resume(self) -> None:
        self.done.append("resume")

    async def press(self, keys: str) -> None:
        self.done.append(keys)

    async def hang_up(self) -> None:
        self.done.append("hang up")
        if self.fails_to_hang_up:
            raise FaultError("no response to BYE")

    async def close(self) -> None:
        self.done.append("close")


async def made(line: MadeUpLine, *turns: PlannedTurn, over: bool = False, talk: Talk = PATIENT, **more: object) -> Call:
    plan = PlannedCall(0, "sip", "", "", turns, **more)  # type: ignore[arg-type]
    ends = frozenset({"goodbye"})
    ended = asyncio.Event()
    if over:
        ended.set()
    call = await Conductor(line, plan, talk, ends, ended, lambda asked: None).run()
    assert line.done[-1] == "close"
    return call


def silence(line: MadeUpLine) -> None:
    """No answer."""


def hangs_up(line: MadeUpLine) -> None:
    line.ended.set_result("BYE")


def is_lost(line: MadeUpLine) -> None:
    line.ended.set_result("failed")


async def test_a_call_to_its_end() -> None:
    line = MadeUpLine()
    call = await made(line, HOURS, PlannedTurn("price", 0.2, hold_s=0.01, keys="1#"))
    assert (call.outcome, call.detail) == (Outcome.COMPLETED, "")
    assert line.done == ["hold", "resume", "1#", "hang up", "close"]
    assert (call.held, call.pressed) == (1, 1)
    for asked in call.asked:
        assert asked.first_at is not None
        assert asked.quiet_at is not None
        assert asked.said_until <= asked.first_at <= asked.quiet_at


async def test_who_interrupts_does_not_wait_for_silence() -> None:
    line = MadeUpLine()
    line.ear.loud_since = lambda since: time.monotonic()  # type: ignore[method-assign]
    call = await made(line, HOURS, PlannedTurn("price", 5.0, barge_in_s=0.0))
    before, after = call.asked
    assert after.barges_in
    assert before.quiet_at is None


async def test_an_answer_that_is_over_cannot_be_interrupted() -> None:
    call = await made(MadeUpLine(), HOURS, PlannedTurn("price", 0.2, barge_in_s=0.6))
    assert not call.asked[1].barges_in
    assert call.asked[0].quiet_at is not None


async def test_there_is_no_question_when_the_run_is_over() -> None:
    call = await made(MadeUpLine(), HOURS, over=True)
    assert (call.outcome, call.asked) == (Outcome.COMPLETED, [])


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (RefusedError("503"), Outcome.REFUSED),
        (FaultError("no response to INVITE"), Outcome.FAILED),
        (NetworkError("no socket"), Outcome.NETWORK),
        (KeyError("a mistake"), Outcome.CALLER),
    ],
)
async def test_calls_that_are_not_answered(error: Exception, outcome: Outcome) -> None:
    call = await made(MadeUpLine(error), HOURS)
    assert (call.outcome, call.answered_at) == (outcome, None)


async def test_answered_into_silence() -> None:
    line = MadeUpLine()
    line.speak = lambda: None  # type: ignore[method-assign]
    call = await made(line, HOURS, talk=Talk(greeting_s=0.05))
    assert (call.outcome, call.detail) == (Outcome.FAILED, "answered into silence")
    assert "hang up" in line.done


@pytest.mark.parametrize(
    ("turn", "answers", "outcome", "detail"),
    [
        (HOURS, hangs_up, Outcome.FAILED, "the far end hung up"),
        (GOODBYE, hangs_up, Outcome.BOT_ENDED, ""),
        (HOURS, is_lost, Outcome.NETWORK, "the connection was lost"),
    ],
)
async def test_questions_that_end_the_call(
    turn: PlannedTurn, answers: Callable[[MadeUpLine], None], outcome: Outcome, detail: str
) -> None:
    call = await made(MadeUpLine(answers=answers), turn)
    assert (call.outcome, call.detail) == (outcome, detail)


async def test_nobody_waits_for_an_answer_for_ever() -> None:
    impatient = PATIENT.model_copy(update={"patience_s": 0.05})
    call = await made(MadeUpLine(answers=silence), HOURS, talk=impatient)
    assert (call.outcome, call.detail) == (Outcome.FAILED, "no answer to a question")
    assert call.asked[0].first_at is None


@pytest.mark.parametrize(("vanishes", "done"), [(False, ["hang up", "close"]), (True, ["close"])])
async def test_hung_up_while_it_rings(vanishes: bool, done: list[str]) -> None:
    line = MadeUpLine()
    line.rings = 3600.0
    call = await made(line, HOURS, hang_up_s=0.05, vanishes=vanishes)
    assert (call.outcome, call.detail) == (Outcome.HUNG_UP, "while it rang")
    assert line.done == done


@pytest.mark.parametrize("hang_up_s", [None, 0.3])
async def test_a_goodbye_without_a_response_is_the_systems_failure(hang_up_s: float | None) -> None:
    line = MadeUpLine(answers=silence if hang_up_s else None)
    line.fails_to_hang_up = True
    call = await made(line, HOURS, hang_up_s=hang_up_s)
    assert call.outcome is Outcome.FAILED


async def test_faults_are_done_and_undone() -> None:
    killed: list[tuple[str, float]] = []

    async def kill(service: str, back_after_s: float) -> None:
        killed.append((service, back_after_s))

    losses = Losses(Random(1))
    done: list[tuple[float, str]] = []
    moments = [
        Moment(0.0, Kill(kind="kill", service="lm", at_s=0.0, back_after_s=2.0)),
        Moment(0.0, Command(kind="command", run=["true"], undo=["false"], at_s=0.0)),
        Moment(0.0, Command(kind="command", run=["/no/such/program"], at_s=0.0)),
        Moment(0.0, Drop(kind="drop", share=1.0, to="caller", at_s=0.0, for_s=0.01)),
    ]
    await Faults(moments, losses, kill)(time.monotonic(), done)
    said = [what for _, what in done]
    assert killed == [("lm", 2.0)]
    assert {"kill lm", "lm is back", "true: status 0", "false: status 1", "drop 100% to caller", "drop ends"} <= set(
        said
    )
    assert any(what.startswith("/no/such/program: not run") for what in said)
    assert not losses.caller_misses()


def test_losses_have_their_share() -> None:
    losses = Losses(Random(1), to_bot=0.25)
    assert sum(losses.bot_misses() for _ in range(4000)) == pytest.approx(1000, abs=150)
    assert not any(losses.caller_misses() for _ in range(100))
