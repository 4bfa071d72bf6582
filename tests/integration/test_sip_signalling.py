"""Calls that go other ways than answer, talk, hang up; and bytes that are no SIP at all."""

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from loadtest.sip.wire import caller
from services.agent.legs.base import CallRefusedError, Leg, LegError
from services.agent.legs.sip import SipEndpoint, SipSettings, free_port
from tests.integration.phone import CallFailedError, phone
from tests.integration.sip_bots import ToneBot, endpoint, hears_tone, until
from tests.integration.sipp_runs import sipp, sipp_callee

needs_sipp = pytest.mark.usefixtures("debian_sipp")
needs_phone = pytest.mark.usefixtures("debian_phone")


@pytest.fixture
def debian_phone(require_debian: Callable[..., None]) -> None:
    require_debian("baresip")


@pytest.fixture
def debian_sipp(require_debian: Callable[..., None]) -> None:
    require_debian("sip-tester")


MALFORMED = [
    b"",
    b"\r\n\r\n",
    b"\x00" * 1200,
    bytes(range(256)) * 4,
    b"INVITE\r\n\r\n",
    b"INVITE sip:x@127.0.0.1 SIP/2.0\r\n\r\n",
    b"INVITE sip:x@127.0.0.1 SIP/3.0\r\nCall-ID: 1\r\nCSeq: 1 INVITE\r\n\r\n",
    b"SIP/2.0 999 Never\r\nCSeq: 1 INVITE\r\n\r\n",
    b"INVITE sip:x@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:9;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\n"
    b"To: <sip:x@127.0.0.1>\r\nCall-ID: m\r\nCSeq: 99999999999 INVITE\r\nContent-Length: 99999\r\n\r\nv=0",
    b"BYE sip:x@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP " + b"a" * 3000 + b"\r\nCSeq: 1 BYE\r\n\r\n",
]


@needs_sipp
async def test_sipps_own_caller_is_served() -> None:
    """It fails at any message that it does not expect, such as a re-INVITE after the answer."""
    bot = ToneBot()
    async with endpoint(bot) as agent:
        await sipp(agent.port, "uac", "-d", "1000")
        await until(lambda: not bot.live())
        assert bot.legs[0].ended.result() == "caller hung up"


async def test_an_answer_is_not_followed_by_another_offer() -> None:
    bot = ToneBot()
    async with endpoint(bot) as agent, caller(agent.port) as wire:
        await wire.answered()
        await wire.listen(0.6)  # a needless re-INVITE comes 50 to 150 ms after the ACK
        assert wire.requests_so_far() == []


@needs_sipp
async def test_a_call_over_capacity_is_refused_and_those_before_it_go_on() -> None:
    bot = ToneBot(capacity=2)
    async with endpoint(bot) as agent, caller(agent.port) as first, caller(agent.port) as second:
        await first.answered()
        await second.answered()
        await sipp(agent.port, "refused")
        assert bot.live() == 2
        await hears_tone(first, 1000)
        second.request("BYE")
        await second.response("BYE", 200)
        await until(lambda: bot.live() == 1)
        async with caller(agent.port) as third:
            await third.answered()


@needs_sipp
async def test_a_caller_who_gives_up_while_it_rings_is_let_go() -> None:
    bot = ToneBot(gate=asyncio.Event())
    async with endpoint(bot) as agent:
        await sipp(agent.port, "cancel")
        await until(lambda: not bot.live())
        assert bot.legs[0].ended.result() == "caller gave up"


@pytest.mark.parametrize("delay_ms", [0, 1, 3, 6])
async def test_a_cancel_that_crosses_the_answer_leaves_no_call(delay_ms: int) -> None:
    gate = asyncio.Event()
    bot = ToneBot(gate=gate)
    async with endpoint(bot) as agent, caller(agent.port) as wire:
        wire.invite()
        await wire.response("INVITE", 180)
        gate.set()
        await asyncio.sleep(delay_ms / 1000)
        wire.request("CANCEL")
        final = await wire.response("INVITE", 200, 487)
        wire.request("ACK")
        if final.status == 200:  # it came too late: RFC 3261 section 15 wants a BYE then
            wire.request("BYE")
            await wire.response("BYE", 200)
        await until(lambda: bool(bot.legs) and not bot.live())
        async with caller(agent.port) as another:
            await another.answered()


async def test_a_cancel_that_comes_with_the_invite_ends_the_call() -> None:
    bot = ToneBot(gate=asyncio.Event())
    async with endpoint(bot) as agent, caller(agent.port) as wire:
        wire.invite()
        wire.request("CANCEL")
        wire.request("CANCEL")  # as over a line that doubles packets
        await wire.response("CANCEL", 200)
        await wire.response("INVITE", 487)
        wire.request("ACK")
        await until(lambda: bool(bot.legs) and not bot.live())
        assert [leg.ended.result() for leg in bot.legs] == ["caller gave up"]


async def test_a_cancel_after_the_answer_or_of_no_call_has_no_effect() -> None:
    bot = ToneBot()
    async with endpoint(bot) as agent, caller(agent.port) as wire, caller(agent.port) as stranger:
        await wire.answered()
        await hears_tone(wire, 1000)
        wire.request("CANCEL")
        await wire.response("CANCEL", 200, 481)
        stranger.request("CANCEL")
        await stranger.response("CANCEL", 481)
        await hears_tone(wire, 1000)
        assert bot.live() == 1


async def test_a_caller_who_hangs_up_at_once_is_let_go() -> None:
    bot = ToneBot()
    async with endpoint(bot) as agent, caller(agent.port) as wire:
        await wire.answered()
        wire.request("BYE")
        await wire.response("BYE", 200)
        await until(lambda: not bot.live())


async def test_an_answer_without_ack_ends() -> None:
    bot = ToneBot()
    async with endpoint(bot) as agent, caller(agent.port) as wire:
        wire.invite()
        await wire.response("INVITE", 200)
        await until(lambda: bool(bot.unanswered), timeout_s=20)
        assert bot.legs[0].ended.result() == "answer not acknowledged"


async def test_a_caller_whose_audio_stops_is_given_up() -> None:
    bot = ToneBot()
    async with endpoint(bot, rtp_timeout_s=2) as agent, caller(agent.port) as wire:
        await wire.answered()
        await wire.listen(0.5)
        await until(lambda: not bot.live(), timeout_s=15)
        assert bot.legs[0].ended.result() == "no audio"


async def test_a_call_has_a_longest_duration() -> None:
    bot = ToneBot()
    async with endpoint(bot, max_call_s=0.5) as agent, caller(agent.port) as wire:
        await wire.answered()
        async with asyncio.timeout(10):
            while (await wire.message()).first_line.split()[0] != "BYE":
                pass
        assert bot.legs[0].ended.result() == "call too long"


async def test_an_acceptor_that_fails_declines_the_call() -> None:
    async def broken(leg: Leg) -> str:
        raise RuntimeError("out of order")

    async with endpoint(broken) as agent, caller(agent.port) as wire:
        wire.invite()
        assert (await wire.response("INVITE", 486, 200)).status == 486


async def test_malformed_messages_do_no_harm() -> None:
    bot = ToneBot()
    async with endpoint(bot) as agent:
        async with caller(agent.port) as fuzzer:
            for message in MALFORMED:
                fuzzer.send_raw(message)
            fuzzer.request("OPTIONS")
            await fuzzer.response("OPTIONS", 200)
        async with caller(agent.port) as wire:
            await wire.answered()
            await hears_tone(wire, 1000)
        assert len(bot.legs) == 1


async def test_a_taken_port_is_a_clear_error() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"cannot listen for SIP on 127.0.0.1:{port}.*in use"):
            await SipEndpoint(SipSettings(port=port)).start()
    async with endpoint(ToneBot()) as agent, caller(agent.port) as wire:  # the process can still start one
        await wire.answered()


async def test_only_udp_is_listened_on() -> None:
    port = free_port("127.0.0.1")
    running = SipEndpoint(SipSettings(port=port), ToneBot())
    await running.start()
    try:
        for other in (port, port + 1):
            with socket.socket() as probe:
                assert probe.connect_ex(("127.0.0.1", other)) != 0
    finally:
        await running.close()


@needs_phone
async def test_a_busy_phone_sees_486(tmp_path: Path) -> None:
    async def full(leg: Leg) -> str:
        raise CallRefusedError("all lines are busy")

    async with endpoint(full) as agent, phone(tmp_path) as handset:
        with pytest.raises(CallFailedError, match="486"):
            await handset.call(f"sip:anyone@127.0.0.1:{agent.port}")


async def test_dialling_nonsense_is_a_clear_error() -> None:
    async with endpoint(ToneBot()) as agent:
        for target in ("", "nobody", "sip:", "sip:a@b c", "tel:123"):
            with pytest.raises(LegError, match="not a SIP URI"):
                await agent.dial(target)


@needs_sipp
async def test_a_call_can_be_placed() -> None:
    async with endpoint(ToneBot()) as agent, sipp_callee("uas") as uri:
        leg = await agent.dial(uri)
        assert leg.to == uri
        await asyncio.wait_for(leg.answer(), 10)
        assert leg.output_rate == 8000
        assert leg.media.write(bytes(320), 8000)
        await leg.hang_up("done")
        assert leg.ended.result() == "done"


async def test_nobody_there_is_a_clear_error() -> None:
    async with endpoint(ToneBot(), ring_timeout_s=1.0) as agent:
        leg = await agent.dial(f"sip:x@127.0.0.1:{free_port('127.0.0.1')}")
        with pytest.raises(LegError, match=r"not answered|failed"):
            await leg.answer()
        assert leg.ended.done()


@needs_phone
@needs_sipp
async def test_a_caller_is_transferred(tmp_path: Path) -> None:
    bot = ToneBot()
    async with endpoint(bot) as agent, sipp_callee("uas") as uri, phone(tmp_path) as handset:
        await handset.call(f"sip:anyone@127.0.0.1:{agent.port}")
        leg = await bot.talking()
        with pytest.raises(LegError, match="give a SIP URI or a number"):
            await leg.transfer("my colleague")
        await asyncio.wait_for(leg.transfer(uri), 15)
        assert leg.ended.result() == "transferred"
        await until(lambda: any(event["peeruri"] == uri for event in handset.events_of("CALL_ESTABLISHED")))


async def test_a_failed_transfer_leaves_the_call() -> None:
    bot = ToneBot()
    async with endpoint(bot) as agent, caller(agent.port) as wire:
        await wire.answered()
        leg = await bot.talking()
        transfer = asyncio.create_task(leg.transfer("+4930123"))
        while (refer := await wire.message()).method != "REFER":
            pass
        assert refer.header("Refer-To") == f"sip:+4930123@127.0.0.1:{wire.port}"
        wire.reply(refer, "603 Decline")
        with pytest.raises(LegError, match="603"):
            await asyncio.wait_for(transfer, 10)
        assert not leg.ended.done()
        await hears_tone(wire, 1000)


@needs_phone
async def test_keys_are_sent(tmp_path: Path) -> None:
    bot = ToneBot()
    async with endpoint(bot) as agent, phone(tmp_path) as handset:
        await handset.call(f"sip:anyone@127.0.0.1:{agent.port}")
        leg = await bot.talking()
        await leg.send_dtmf("7#")
        await until(lambda: [event["param"] for event in handset.events_of("CALL_DTMF_START")] == ["7", "#"])
        with pytest.raises(LegError, match="not a DTMF digit"):
            await leg.send_dtmf("x")
