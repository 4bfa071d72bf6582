"""What is heard on a phone call: tones both ways between our SIP leg and Debian's baresip."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.integration.phone import RATE, phone
from tests.integration.sip_bots import ToneBot, endpoint, pitch, tone, until
from tests.integration.sip_wire import caller

needs_phone = pytest.mark.usefixtures("debian_phone")


@pytest.fixture
def debian_phone(require_debian: Callable[..., None]) -> None:
    require_debian("baresip")


@needs_phone
@pytest.mark.parametrize("codec", ["PCMU", "PCMA"])
async def test_each_side_hears_the_other(tmp_path: Path, codec: str) -> None:
    bot = ToneBot(1000)
    async with endpoint(bot) as agent, phone(tmp_path, codec=codec) as handset:
        await handset.call(f"sip:anyone@127.0.0.1:{agent.port}")
        await handset.play(tone(440, 20, RATE))
        [leg] = bot.legs
        await until(lambda: handset.heard_s() > 1.5 and len(bot.heard[leg]) > 3 * 32_000)
        assert leg.from_ == "sip:phone@127.0.0.1"
        assert leg.to == f"sip:anyone@127.0.0.1:{agent.port}"
        assert leg.output_rate == RATE
        hertz, decibels = pitch(handset.heard()[-RATE:], RATE)
        assert hertz == pytest.approx(1000, abs=2)
        assert decibels > 30
        hertz, decibels = pitch(np.frombuffer(bot.heard[leg], np.int16)[-16_000:], 16_000)
        assert hertz == pytest.approx(440, abs=2)
        assert decibels > 30


@needs_phone
async def test_two_calls_do_not_mix(tmp_path: Path) -> None:
    bot = ToneBot()
    async with endpoint(bot) as agent, phone(tmp_path / "1", "ann") as ann, phone(tmp_path / "2", "bob") as bob:
        for handset, hertz in ((ann, 300.0), (bob, 600.0)):
            await handset.call(f"sip:anyone@127.0.0.1:{agent.port}")
            await handset.play(tone(hertz, 20, RATE))
        await until(lambda: all(len(heard) > 3 * 32_000 for heard in bot.heard.values()))
        for leg, heard in bot.heard.items():
            hertz, decibels = pitch(np.frombuffer(heard, np.int16)[-16_000:], 16_000)
            assert hertz == pytest.approx({"sip:ann@127.0.0.1": 300, "sip:bob@127.0.0.1": 600}[leg.from_], abs=2)
            assert decibels > 30


@needs_phone
async def test_keys_arrive_as_they_were_pressed(tmp_path: Path) -> None:
    bot = ToneBot()
    async with endpoint(bot) as agent, phone(tmp_path) as handset:
        await handset.call(f"sip:anyone@127.0.0.1:{agent.port}")
        for key in "5", "#":
            await handset.press(key)
        [leg] = bot.legs
        await until(lambda: list(leg.media.keys) == ["5", "#"])


async def test_an_interruption_silences_what_was_not_sent_yet() -> None:
    bot = ToneBot()
    async with endpoint(bot) as agent, caller(agent.port) as wire:
        await wire.answered()
        [leg] = bot.legs
        await wire.listen(0.3)
        # Three seconds more than the line has sent, of a tone of their own.
        assert leg.media.write(tone(2500, 1, leg.output_rate).tobytes(), leg.output_rate)
        await wire.listen(0.3)
        assert leg.media.unsent_s() > 0.4
        leg.media.flush()
        await wire.listen(0.2)  # what was on its way
        hertz, decibels = pitch(await wire.listen(0.5), RATE)
        assert hertz == pytest.approx(1000, abs=3)
        assert decibels > 20


@pytest.mark.parametrize("hold", ["sendonly", "inactive"])
async def test_a_call_survives_hold(hold: str) -> None:
    bot = ToneBot()
    async with endpoint(bot) as agent, caller(agent.port) as wire:
        await wire.answered()
        assert pitch(await wire.listen(0.6), RATE)[0] == pytest.approx(1000, abs=3)
        wire.invite(hold)
        await wire.response("INVITE", 200)
        wire.request("ACK")
        await wire.listen(0.2)  # what was on its way
        assert not len(await wire.listen(0.6))
        wire.invite("sendrecv")
        await wire.response("INVITE", 200)
        wire.request("ACK")
        [leg] = bot.legs
        before = len(bot.heard[leg])
        hertz, decibels = pitch((await wire.listen(1.0))[-4000:], RATE)
        assert hertz == pytest.approx(1000, abs=3)
        assert decibels > 20
        assert len(bot.heard[leg]) > before
        assert not leg.ended.done()


async def test_a_call_that_begins_on_hold_is_talked_to_when_it_is_connected() -> None:
    bot = ToneBot()
    async with endpoint(bot) as agent, caller(agent.port) as wire:
        await wire.answered("inactive")
        assert not len(await wire.listen(0.4))
        wire.invite("sendrecv")
        await wire.response("INVITE", 200)
        wire.request("ACK")
        assert pitch((await wire.listen(1.0))[-4000:], RATE)[0] == pytest.approx(1000, abs=3)
