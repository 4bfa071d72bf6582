"""Trunks: registration with a password, its renewal, failure and recovery, and calls that go out through them."""

import logging
from collections.abc import Callable

import pytest

from loadtest.sip.wire import caller
from services.agent.legs.base import LegError
from services.agent.legs.sip_settings import Transport, Trunk
from services.agent.legs.sip_trunks import Registration
from tests.integration.sip_bots import ToneBot, endpoint, hears_tone, until
from tests.integration.sipp_runs import sipp_callee

PASSWORD = "correct horse"


@pytest.fixture(autouse=True)
def debian_sipp(require_debian: Callable[..., None]) -> None:
    require_debian("sip-tester")


def trunk(uri: str, password: str = PASSWORD, expires_s: int = 60, transport: Transport = "udp") -> Trunk:
    return Trunk("provider", uri.partition("@")[2], "alice", password, expires_s=expires_s, transport=transport)


async def test_a_registration_is_challenged_renewed_lost_and_recovered(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with sipp_callee("registrar", calls=2) as uri, endpoint(ToneBot(), trunks=(trunk(uri),)) as agent:
        for state in (Registration.REGISTERED, Registration.FAILED):
            await until(lambda state=state: agent.trunks[0].registration is state)  # type: ignore[misc]
        assert agent.trunks[0].status == "503 Service Unavailable"
        await until(lambda: agent.trunks[0].registration is Registration.REGISTERED)
        assert agent.trunks[0].status == ""
    assert [record.getMessage() for record in caplog.records if "sip_trunks" in record.name] == [
        "trunk registered", "trunk registration failed", "trunk registered",
    ]  # fmt: skip
    assert not any(PASSWORD in str(record.__dict__) for record in caplog.records)


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_a_registration_is_taken_back_at_the_end(transport: Transport) -> None:
    async with sipp_callee("registrar_leave", must_succeed=True, transport=transport) as uri:
        line = trunk(uri, transport=transport)
        async with endpoint(ToneBot(), transports=("udp", "tcp"), trunks=(line,)) as agent:
            await until(lambda: agent.trunks[0].registration is Registration.REGISTERED)


async def test_a_wrong_password_is_visible_and_calls_are_still_taken() -> None:
    async with sipp_callee("registrar") as uri, endpoint(ToneBot(), trunks=(trunk(uri, "wrong"),)) as agent:
        await until(lambda: agent.trunks[0].registration is Registration.FAILED)
        assert agent.trunks[0].status.startswith("403")


async def test_a_number_is_called_at_the_trunk_with_its_password() -> None:
    async with (
        sipp_callee("trunk", must_succeed=True) as uri,
        endpoint(ToneBot(), trunks=(trunk(uri, expires_s=0),)) as agent,
    ):
        assert agent.trunks[0].registration is Registration.OFF
        leg = await agent.dial("+4930123")
        assert leg.to == f"sip:+4930123@{uri.partition('@')[2]}"
        await leg.answer()
        await leg.hang_up("done")


async def test_calls_to_the_trunks_name_and_to_any_number_are_taken() -> None:
    bot = ToneBot()
    async with endpoint(bot, trunks=(trunk("sip:x@127.0.0.1:9", expires_s=0),)) as agent:
        for called in ("alice", "+4930123"):
            async with caller(agent.port) as wire:
                wire.called = called
                await wire.answered()
                await hears_tone(wire, 1000)
    assert [leg.to.partition("@")[0] for leg in bot.legs] == ["sip:alice", "sip:+4930123"]


async def test_a_number_without_a_trunk_is_a_clear_error() -> None:
    async with endpoint(ToneBot()) as agent:
        with pytest.raises(LegError, match="needs a trunk"):
            await agent.dial("+4930123")
