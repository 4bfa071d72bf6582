"""A host's sessions: order, limits, and what is left of them. Triton is played here; tests/triton has the real one."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from services.common.errors import InvalidInputError
from services.common.triton_host import Command, Host
from services.common.triton_metrics import Watched
from services.common.triton_reply import Outbox, Reply
from services.common.triton_wire import Tensors, number, text
from tests.unit.common.fake_triton import BACKEND, Sender

LEASE_S = 30.0


class Stream:
    """Answers `say` with its number; `wait` waits to be released; `keep_open` is answered when the session closes."""

    def __init__(self, model: "Model") -> None:
        self._model = model
        self._kept: list[Reply] = []

    async def execute(self, command: Command, reply: Reply) -> None:
        self._model.executed.append(command.name)
        if command.name == "wait":
            await asyncio.to_thread(self._model.release.wait)
        elif command.name == "keep_open":
            self._kept.append(reply)
            return
        elif command.name == "bad":
            raise InvalidInputError("bad is not allowed")
        elif command.name == "bug":
            raise ZeroDivisionError("a secret")
        reply.send({"N": number(int(command.parameters.get("n", 0)))})
        reply.finish()

    def close(self) -> None:
        self._model.closed += 1
        for reply in self._kept:
            reply.finish()


class Model:
    revision = "r1"

    def __init__(self) -> None:
        self.executed: list[str] = []
        self.release = threading.Event()
        self.closed = 0
        self.stopped = False

    @property
    def watched(self) -> Watched:
        return Watched("lm", lambda: len(self.executed))

    async def start(self) -> None:
        pass

    def describe(self) -> str:
        return "{}"

    async def open(self, command: Command, hold: Reply) -> Stream:
        if command.parameters.get("voice"):
            raise InvalidInputError("no such voice")
        return Stream(self)

    async def ask(self, command: Command) -> Tensors:
        return {"ANSWER": text(command.name)}

    def stop(self) -> None:
        self.stopped = True


class Rig:
    def __init__(self) -> None:
        self.model = Model()
        self.now = 0.0
        self.live = -1
        self.senders: list[Sender] = []
        self.outbox = Outbox(BACKEND, lambda array: array)
        self.host = Host(
            self.model, self.outbox, 2, LEASE_S, on_count=self._count, clock=lambda: self.now, poll_s=0.005
        )
        self.host.start()

    def _count(self, count: int) -> None:
        self.live = count

    def send(self, name: str, session: str = "", **parameters: str | int) -> Sender:
        sender = Sender()
        self.senders.append(sender)
        self.host.submit(Command(name, session, {}, parameters), Reply(sender, self.outbox))
        return sender

    def opened(self, session: str) -> Sender:
        sender = self.send("open", session)
        until(lambda: bool(sender.responses))
        return sender


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig()
    yield rig
    rig.model.release.set()
    rig.host.stop()
    assert rig.model.stopped
    assert all(sender.final and not sender.misused for sender in rig.senders)


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.002)


def test_commands_are_executed_in_order_and_answered_each(rig: Rig) -> None:
    hold = rig.send("open", "a")
    senders = [rig.send("say", "a", n=n) for n in range(20)]
    until(lambda: senders[-1].final)
    assert [int(sender.responses[0]["N"][0]) for sender in senders] == list(range(20))
    assert all("DONE" in sender.responses[-1] for sender in senders)
    assert int(hold.responses[0]["LEASE_MS"][0]) == 30_000
    assert not hold.final
    assert rig.live == 1


def test_close_does_not_wait_for_what_is_computed(rig: Rig) -> None:
    hold = rig.opened("a")
    waiting, queued = rig.send("wait", "a"), rig.send("say", "a")
    until(lambda: rig.model.executed == ["wait"])
    closing = rig.send("close", "a")
    until(lambda: hold.final and closing.final and waiting.final and queued.final)
    assert rig.model.executed == ["wait"]
    assert rig.model.closed == 1
    assert [*waiting.errors, *queued.errors] == ["UNAVAILABLE: Triton has ended the session"] * 2
    assert rig.live == 0


def test_opened_and_closed_in_one_breath_leaves_nothing(rig: Rig) -> None:
    for _ in range(50):
        hold, closing = rig.send("open", "a"), rig.send("close", "a")
        until(lambda: hold.final and closing.final)  # noqa: B023
    assert rig.live == 0


def test_an_answer_that_stays_open_ends_with_the_session(rig: Rig) -> None:
    rig.opened("a")
    answer, other = rig.send("keep_open", "a"), rig.send("say", "a")
    until(lambda: other.final)
    assert not answer.final
    rig.send("close", "a")
    until(lambda: answer.final)


def test_a_session_that_says_nothing_loses_its_lease(rig: Rig) -> None:
    silent, kept = rig.opened("a"), rig.opened("b")
    rig.now = 0.9 * LEASE_S
    keep = rig.send("keep", "b")
    until(lambda: keep.final)
    rig.now = 1.1 * LEASE_S
    until(lambda: silent.final)
    assert not kept.final
    assert (rig.live, rig.model.closed) == (1, 1)
    late = rig.send("say", "a")
    until(lambda: late.final)
    assert late.errors[0].startswith("UNAVAILABLE: no such session at Triton")


def test_a_session_whose_client_vanished_ends(rig: Rig) -> None:
    rig.model.release.set()
    holds = [rig.opened(name) for name in "ab"]
    holds[0].cancelled = True
    until(lambda: holds[0].final)
    assert not holds[1].final
    assert rig.model.closed == 1


def test_one_session_too_many(rig: Rig) -> None:
    rig.opened("a")
    rig.opened("b")
    refused = rig.send("open", "c")
    until(lambda: refused.final)
    assert refused.errors == ["RESOURCE_EXHAUSTED: all 2 sessions at Triton are taken; try again later"]
    rig.send("close", "a")
    until(lambda: rig.live == 1)
    rig.opened("c")


def test_the_room_of_a_session_that_is_being_closed_is_free_at_once(rig: Rig) -> None:
    rig.opened("a")
    rig.opened("b")
    for _ in range(20):
        rig.send("close", "a")
        again = rig.send("open", "c")
        rig.send("close", "c")
        rig.send("open", "a")
        until(lambda: again.final)  # noqa: B023
        assert not again.errors


def test_failures_go_to_who_asked_and_the_session_stays(rig: Rig) -> None:
    hold = rig.opened("a")
    bad, bug, good = rig.send("bad", "a"), rig.send("bug", "a"), rig.send("say", "a")
    until(lambda: good.final)
    assert bad.errors == ["INVALID_ARGUMENT: bad is not allowed"]
    assert bug.errors == ["INTERNAL: unexpected failure; see Triton's log"]
    assert not good.errors
    assert not hold.final


@pytest.mark.parametrize(
    ("parameters", "error"),
    [
        ({"voice": "nobody"}, "INVALID_ARGUMENT: no such voice"),
        ({"revision": "r0"}, "UNAVAILABLE: Triton serves the weights r1 now, this service was started with r0"),
    ],
)
def test_a_session_that_cannot_be_opened(rig: Rig, parameters: dict[str, str], error: str) -> None:
    hold = rig.send("open", "a", **parameters)
    until(lambda: hold.final)
    assert hold.errors[0].startswith(error)
    until(lambda: rig.live == 0)


def test_a_second_open_is_refused_and_the_first_goes_on(rig: Rig) -> None:
    hold = rig.opened("a")
    again = rig.send("open", "a")
    until(lambda: again.final)
    assert again.errors == ["INVALID_ARGUMENT: session a is open already"]
    assert not hold.final


def test_questions_need_no_session(rig: Rig) -> None:
    info, other = rig.send("info"), rig.send("files")
    until(lambda: info.final and other.final)
    assert bytes(info.responses[0]["JSON"]) == b"{}"
    assert bytes(other.responses[0]["ANSWER"]) == b"files"


def test_stopping_ends_every_session() -> None:
    rig = Rig()
    holds = [rig.opened(name) for name in "ab"]
    waiting = rig.send("wait", "a")
    until(lambda: rig.model.executed == ["wait"])
    rig.model.release.set()
    rig.host.stop()
    assert all(sender.final for sender in (*holds, waiting))
    assert rig.model.closed == 2
