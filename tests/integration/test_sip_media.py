"""What is heard on a phone call: tones both ways between our SIP leg and Debian's baresip."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.integration.phone import RATE, phone
from tests.integration.sip_bots import Pcm, ToneBot, endpoint, has_tone, hears_nothing, hears_tone, tone, until
from tests.integration.sip_wire import caller

needs_phone = pytest.mark.usefixtures("debian_phone")


@pytest.fixture
def debian_phone(require_debian: Callable[..., None]) -> None:
    require_debian("baresip")


def samples(pcm: bytearray) -> Pcm:
    return np.frombuffer(bytes(pcm), np.int16)


@needs_phone
@pytest.mark.parametrize("codec", ["PCMU", "PCMA"])
async def test_each_side_hears_the_other(tmp_path: Path, codec: str) -> None:
    bot = ToneBot(1000)
    async with endpoint(bot) as agent, phone(tmp_path, codec=codec) as handset:
        await handset.call(f"sip:anyone@127.0.0.1:{agent.port}")
        await handset.play(tone(440, 20, RATE))
        [leg] = bot.legs
        await until(lambda: has_tone(handset.heard()[-RATE:], RATE, 1000, 30))
        await until(lambda: has_tone(samples(bot.heard[leg])[-16_000:], 16_000, 440, 30))
        assert leg.from_ == "sip:phone@127.0.0.1"
        assert leg.to == f"sip:anyone@127.0.0.1:{agent.port}"
        assert leg.output_rate == RATE


@needs_phone
async def test_two_calls_do_not_mix(tmp_path: Path) -> None:
    bot = ToneBot()
    async with endpoint(bot) as agent, phone(tmp_path / "1", "ann") as ann, phone(tmp_path / "2", "bob") as bob:
        for handset, hertz in ((ann, 300.0), (bob, 600.0)):
            await handset.call(f"sip:anyone@127.0.0.1:{agent.port}")
            await handset.play(tone(hertz, 20, RATE))
        own = {"sip:ann@127.0.0.1": 300.0, "sip:bob@127.0.0.1": 600.0}
        assert {leg.from_ for leg in bot.legs} == own.keys()
        for leg, heard in bot.heard.items():
            await until(lambda leg=leg, heard=heard: has_tone(samples(heard)[-16_000:], 16_000, own[leg.from_], 30))  # type: ignore[misc]


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
        await hears_tone(wire, 1000)
        # A second of another tone, after what is queued; the bot adds nothing meanwhile.
        assert leg.media.write(tone(2500, 1, leg.output_rate).tobytes(), leg.output_rate)
        assert leg.media.unsent_s() > 0.9
        leg.media.flush()
        heard = await wire.listen(1.5)
        assert not any(has_tone(heard[start : start + RATE // 2], RATE, 2500, 0) for start in range(0, len(heard), 800))
        await hears_tone(wire, 1000)


@pytest.mark.parametrize("hold", ["sendonly", "inactive"])
async def test_a_call_survives_hold(hold: str) -> None:
    bot = ToneBot()
    async with endpoint(bot) as agent, caller(agent.port) as wire:
        await wire.answered()
        await hears_tone(wire, 1000)
        wire.invite(hold)
        await wire.response("INVITE", 200)
        wire.request("ACK")
        await hears_nothing(wire)
        wire.invite("sendrecv")
        await wire.response("INVITE", 200)
        wire.request("ACK")
        [leg] = bot.legs
        before = len(bot.heard[leg])
        await hears_tone(wire, 1000)
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
        await hears_tone(wire, 1000)
