import asyncio
from collections.abc import Callable

import pytest

from services.agent.drain import DrainPlan, Step, drain
from services.common.grpc_server import Slots


def test_callers_are_told_and_then_the_calls_are_ended() -> None:
    plan = DrainPlan(600.0, 30.0)
    plan.begin(1000.0)
    assert plan.steps(1000.0) == []
    assert plan.wait_s(1000.0) == 570.0
    assert plan.steps(1569.9) == []
    assert plan.steps(1570.0) == [Step.NOTICE]
    assert plan.steps(1570.0) == []
    assert plan.wait_s(1590.0) == 10.0
    assert plan.steps(1601.0) == [Step.END]
    assert plan.wait_s(1601.0) == 0.0


def test_a_process_that_slept_through_it_all_does_both() -> None:
    plan = DrainPlan(60.0, 30.0)
    plan.begin(0.0)
    assert plan.steps(3600.0) == [Step.NOTICE, Step.END]


@pytest.mark.parametrize(("grace_s", "at_once"), [(20.0, [Step.NOTICE]), (0.0, [Step.END])])
def test_a_short_time_leaves_no_time_to_wait(grace_s: float, at_once: list[Step]) -> None:
    plan = DrainPlan(grace_s, 30.0)
    plan.begin(5.0)
    assert plan.steps(5.0) == at_once


class Staff:
    """Two calls; what becomes of them is the test's."""

    def __init__(self) -> None:
        self.slots = Slots(2, "calls")
        self.calls = [self.slots.take(), self.slots.take()]
        for call in self.calls:
            call.__enter__()
        self.told = 0

    def announce_closing(self) -> None:
        self.told += 1

    def hang_up(self) -> None:
        self.calls.pop().__exit__(None, None, None)


async def withdrawn(log: list[str]) -> None:
    log.append("withdrawn")


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0)


async def test_it_is_over_with_the_last_call() -> None:
    staff, log = Staff(), list[str]()
    give_up: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
    draining = asyncio.create_task(drain(staff, DrainPlan(600.0, 30.0), lambda: withdrawn(log), give_up))
    await until(lambda: log == ["withdrawn"])
    assert staff.slots.draining
    staff.hang_up()
    for _ in range(5):
        await asyncio.sleep(0)
    assert not draining.done()
    staff.hang_up()
    await draining
    assert staff.told == 0


async def test_a_second_signal_ends_it_at_once_even_when_a_registrar_does_not_answer() -> None:
    staff = Staff()
    give_up: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
    never = asyncio.Event()

    async def withdraw() -> None:
        await never.wait()

    draining = asyncio.create_task(drain(staff, DrainPlan(600.0, 600.0), withdraw, give_up))
    await until(lambda: staff.told == 1)
    assert not draining.done()
    give_up.set_result(True)
    await draining
    assert staff.slots.active == 2


async def test_at_the_end_of_its_time_calls_are_left_to_be_ended() -> None:
    staff, now = Staff(), [0.0]
    give_up: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def clock() -> float:
        now[0] += 100.0  # time flies
        return now[0]

    async def fails() -> None:
        raise OSError("no registrar")

    await drain(staff, DrainPlan(150.0, 30.0), fails, give_up, clock)
    assert (staff.told, staff.slots.active) == (0, 2) or staff.told == 1
