"""Phone calls in worker processes: what is heard, what a crash costs, and what is left of it."""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from loadtest.sip.wire import caller
from services.agent.legs.base import LegError
from services.agent.legs.sip import SipSettings, free_port
from services.agent.legs.sip_workers import link as link_module
from services.agent.legs.sip_workers.supervisor import PORT_STEP, SipWorkers
from tests.integration.crashes import fault, kill
from tests.integration.line_bots import Whistler, sip_workers, worker_of
from tests.integration.phone import RATE, Phone, phone
from tests.integration.sip_bots import has_tone, hears_tone, tone, until


@pytest.fixture(autouse=True)
def debian_phone(require_debian: Callable[..., None]) -> None:
    require_debian("baresip")


async def test_each_side_hears_the_other_and_its_keys(tmp_path: Path) -> None:
    bot = Whistler(1000)
    async with sip_workers(bot) as lines, phone(tmp_path) as handset:
        for port in lines.ports:
            bot.legs.clear()
            await talk_and_press_keys(bot, handset, f"sip:anyone@127.0.0.1:{port}")


async def talk_and_press_keys(bot: Whistler, handset: Phone, uri: str) -> None:
    await handset.call(uri)
    await handset.play(tone(440, 20, RATE))
    await until(lambda: bool(bot.legs))
    [leg] = bot.legs
    await until(lambda: has_tone(handset.heard()[-RATE:], RATE, 1000, 30))
    await until(lambda: has_tone(np.frombuffer(bytes(bot.heard[leg][-32_000:]), np.int16), 16_000, 440, 30))
    assert (leg.from_, leg.to) == ("sip:phone@127.0.0.1", uri)
    await handset.press("5")
    await until(lambda: list(leg.media.keys) == ["5"])
    await leg.send_dtmf("#")
    await handset.wait_for("CALL_DTMF_START")
    await handset.hang_up()
    await until(lambda: leg.ended.done())
    assert leg.ended.result() == "caller hung up"


@pytest.mark.parametrize("crash", [kill, fault])
async def test_a_crash_costs_its_own_calls_alone(tmp_path: Path, crash: Callable[[int], signal.Signals]) -> None:
    bot = Whistler(1000)
    async with sip_workers(bot) as lines, phone(tmp_path / "1", "ann") as ann, phone(tmp_path / "2", "bob") as bob:
        first, second = lines.ports
        await ann.call(f"sip:anyone@127.0.0.1:{first}")
        await bob.call(f"sip:anyone@127.0.0.1:{second}")
        await until(lambda: len(bot.heard) == 2)
        anns, bobs = sorted(bot.legs, key=lambda leg: leg.from_)
        await until(lambda: has_tone(bob.heard()[-RATE:], RATE, 1000, 30))
        since = len(bob.heard())
        victim = worker_of(lines, anns)
        assert os.listdir(victim.directory)
        number = crash(victim.pid)

        assert await asyncio.wait_for(asyncio.shield(anns.ended), 20) == "SIP worker died"
        with pytest.raises(LegError, match="SIP worker died"):
            await anns.transfer("+4930123")
        assert not anns.media.write(bytes(320), 8000)
        await until(lambda: victim.over.done())
        assert victim.over.result() == -number
        assert not victim.calls
        assert victim.directory.name not in os.listdir(victim.directory.parent)
        await until(lambda: len(lines.workers) == 2)

        # The phone was sent no BYE, and hears nothing; the call it makes next is a new one.
        assert not ann.events_of("CALL_CLOSED")
        await ann.hang_up()
        await ann.wait_for("CALL_CLOSED")
        await ann.call(f"sip:anyone@127.0.0.1:{first}")
        await until(lambda: has_tone(ann.heard()[-RATE:], RATE, 1000, 30))
        assert lines.ports == [first, second]

        assert not bobs.ended.done()
        heard = bob.heard()[since:]
        assert len(heard) > RATE
        for start in range(0, len(heard) - RATE, RATE):
            assert has_tone(heard[start : start + RATE], RATE, 1000, 30)


async def test_a_worker_that_hangs_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is stopped (SIGSTOP), as by a deadlock: it takes no orders and does not end by itself."""
    monkeypatch.setattr(link_module, "PING_S", 0.2)
    monkeypatch.setattr(link_module, "PATIENCE_S", 2.0)
    bot = Whistler()
    async with sip_workers(bot, 1) as lines, caller(lines.ports[0]) as wire:
        await wire.answered()
        await until(lambda: bool(bot.heard))
        [leg] = bot.legs
        [link] = lines.workers.values()
        os.kill(link.pid, signal.SIGSTOP)
        await until(lambda: not leg.media.write(bytes(32_000), 8000))  # what it does not take is not heaped up
        hanging_up = asyncio.create_task(leg.hang_up("done"))
        await until(lambda: link.over.done())
        assert link.over.result() == -signal.SIGKILL
        await hanging_up
        await until(lambda: bool(lines.workers))
        wire.request("BYE")
        await wire.response("BYE", 481)


async def test_a_worker_that_does_not_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "STOP_S", 0.5)
    lines = SipWorkers(SipSettings(port=0), 1, Whistler())
    await lines.start()
    [link] = lines.workers.values()
    os.kill(link.pid, signal.SIGSTOP)
    await lines.close()
    assert link.over.result() == -signal.SIGKILL


async def test_a_stopped_agent_leaves_no_call_and_no_process(tmp_path: Path) -> None:
    """What the worker sees of an agent's death is the end of its socket; see also the whole agent's own test."""
    bot = Whistler()
    async with sip_workers(bot, 1) as lines, phone(tmp_path) as handset:
        await handset.call(f"sip:anyone@127.0.0.1:{lines.ports[0]}")
        await until(lambda: bool(bot.heard))
        [link] = lines.workers.values()
        link._connection.close()
        await handset.wait_for("CALL_CLOSED")
        await until(lambda: link.over.done())
        assert link.over.result() == 0


async def test_a_taken_port_is_a_clear_error_and_leaves_no_worker() -> None:
    port, others = free_port("127.0.0.1"), children()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", port + PORT_STEP))
        lines = SipWorkers(SipSettings(port=port), 2, Whistler())
        with pytest.raises(OSError, match=f"cannot listen for SIP on 127.0.0.1:{port + PORT_STEP}.*in use"):
            await lines.start()
        assert not lines.workers
        assert children() <= others


async def test_a_worker_that_cannot_start_again_is_given_up_and_the_other_goes_on() -> None:
    bot = Whistler()
    async with sip_workers(bot) as lines, contextlib.AsyncExitStack() as stack:
        for index, port in enumerate(lines.ports):
            assert not lines.failed.done()
            link = lines.workers[index]
            os.kill(link.pid, signal.SIGKILL)
            await until(lambda link=link: link.over.done())  # type: ignore[misc]
            taken = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            taken.bind(("127.0.0.1", port))
            if index == 0:
                async with caller(lines.ports[1]) as wire:
                    await wire.answered()
        assert "no SIP worker can be started" in await asyncio.wait_for(lines.failed, 60)
        with pytest.raises(LegError, match="no SIP worker"):
            await lines.dial("sip:anyone@127.0.0.1:5060")


async def test_calls_out_are_spread_over_the_workers(tmp_path: Path) -> None:
    bot = Whistler(1000)
    async with (
        sip_workers(bot) as lines,
        phone(tmp_path / "1", "ann", account=";answermode=auto") as ann,
        phone(tmp_path / "2", "bob", account=";answermode=auto") as bob,
    ):
        legs = [await lines.dial(handset.uri) for handset in (ann, bob)]
        assert worker_of(lines, legs[0]) is not worker_of(lines, legs[1])
        for leg in legs:
            bot.talk(leg)
        for handset in ann, bob:
            await until(lambda handset=handset: has_tone(handset.heard()[-RATE:], RATE, 1000, 30))  # type: ignore[misc]
        await legs[0].hang_up("done")
        await ann.wait_for("CALL_CLOSED")
        await bob.hang_up()
        await until(lambda: legs[1].ended.done())
        assert [leg.ended.result() for leg in legs] == ["done", "caller hung up"]


async def test_a_call_out_that_fails_says_why() -> None:
    async with sip_workers(Whistler(), 1, ring_timeout_s=1.0) as lines:
        with pytest.raises(LegError, match="not a SIP URI"):
            await lines.dial("nobody")
        leg = await lines.dial(f"sip:x@127.0.0.1:{free_port('127.0.0.1')}")
        with pytest.raises(LegError, match=r"not answered|failed"):
            await leg.answer()
        assert leg.ended.done()
        assert not lines.workers[0].calls


async def test_a_refused_call_and_one_that_gives_up_leave_nothing() -> None:
    gate = asyncio.Event()
    bot = Whistler(gate=gate, capacity=1)
    async with sip_workers(bot, 1) as lines:
        async with caller(lines.ports[0]) as first, caller(lines.ports[0]) as second:
            first.invite()
            await first.response("INVITE", 180)
            await until(lambda: len(bot.legs) == 1)
            second.invite()
            await second.response("INVITE", 486, 503)
            second.request("ACK")
            first.request("CANCEL")
            await first.response("INVITE", 487)
            first.request("ACK")
            await until(lambda: bot.legs[0].ended.done())
        assert bot.legs[0].ended.result() == "caller gave up"
        assert len(bot.legs) == 1
        await until(lambda: not lines.workers[0].calls)
        gate.set()
        await until(lambda: bot.unanswered == {bot.legs[0]: "caller gave up"})


async def test_a_hold_and_its_end_reach_the_agent() -> None:
    bot = Whistler()
    async with sip_workers(bot, 1) as lines, caller(lines.ports[0]) as wire:
        await wire.answered()
        await hears_tone(wire, 1000)
        [leg] = bot.legs
        for direction, held in (("sendonly", True), ("sendrecv", False)):
            wire.invite(direction)
            await wire.response("INVITE", 200)
            wire.request("ACK")
            await until(lambda held=held: leg.held is held)  # type: ignore[misc]
        await hears_tone(wire, 1000)
        holding = asyncio.create_task(leg.hold())
        while not (offer := await wire.message()).first_line.startswith("INVITE"):
            pass
        wire.accept(offer, "recvonly")
        await holding
        await until(lambda: leg.held)


def children() -> set[int]:
    """Processes that this one has started and not yet waited for."""
    return {int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()}
