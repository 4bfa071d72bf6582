"""Calls by SIPp's scenarios: hold, transfer, delayed offer, keys, and refusals of calls that we place."""

import asyncio
import os
from collections.abc import Callable

import pytest

from services.agent.legs.base import LegError
from tests.integration.sip_bots import ToneBot, endpoint, until
from tests.integration.sipp_runs import sipp, sipp_callee

COLLEAGUE = "sip:colleague@127.0.0.1:9"


@pytest.fixture(autouse=True)
def debian_sipp(require_debian: Callable[..., None]) -> None:
    require_debian("sip-tester")


async def test_a_caller_holds_and_resumes() -> None:
    """The scenario checks what our answers say; here is what the call does about it."""
    bot = ToneBot()
    async with endpoint(bot, rtp_timeout_s=1) as agent:
        scenario = asyncio.create_task(sipp(agent.port, "hold"))
        leg = await bot.talking()
        for held in (True, False):
            await until(lambda held=held: leg.held is held)  # type: ignore[misc]
        await scenario
        await until(leg.ended.done)
        assert leg.ended.result() == "caller hung up"


async def test_the_offer_may_be_ours() -> None:
    bot = ToneBot()
    async with endpoint(bot) as agent:
        scenario = asyncio.create_task(sipp(agent.port, "delayed_offer"))
        assert (await bot.talking()).output_rate == 8000
        await scenario


async def test_keys_come_by_rtp_and_by_info() -> None:
    if os.geteuid():
        pytest.skip("SIPp plays RTP events from raw sockets, which takes root")
    bot = ToneBot()
    async with endpoint(bot) as agent:
        await sipp(agent.port, "dtmf")
        assert list(bot.legs[0].media.keys) == ["4", "2", "#", "*"]


async def test_a_transfer_that_succeeds_ends_the_call() -> None:
    bot = ToneBot()
    async with endpoint(bot) as agent:
        scenario = asyncio.create_task(sipp(agent.port, "refer"))
        leg = await bot.talking()
        await leg.transfer(COLLEAGUE)
        assert leg.ended.result() == "transferred"
        await scenario


async def test_a_transfer_that_fails_names_the_status_and_the_call_goes_on() -> None:
    bot = ToneBot()
    async with endpoint(bot) as agent:
        scenario = asyncio.create_task(sipp(agent.port, "refer_fails"))
        leg = await bot.talking()
        with pytest.raises(LegError, match=r"^transfer failed: 486 Busy Here$"):
            await leg.transfer(COLLEAGUE)
        assert not leg.ended.done()
        await scenario  # the caller hears us still, and hangs up
        await until(leg.ended.done)
        assert leg.ended.result() == "caller hung up"


@pytest.mark.parametrize(("scenario", "reason"), [("uas_486", "busy"), ("uas_503", "refused: 503")])
async def test_a_refused_call_says_how(scenario: str, reason: str) -> None:
    async with endpoint(ToneBot()) as agent, sipp_callee(scenario, must_succeed=True) as uri:
        leg = await agent.dial(uri)
        with pytest.raises(LegError, match=f"^{reason}$"):
            await leg.answer()
