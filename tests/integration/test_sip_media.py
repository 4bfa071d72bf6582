"""What is heard on a phone call: tones both ways between our SIP leg and Debian's baresip."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from loadtest.sip.wire import Caller, caller
from services.agent.legs.base import LegError
from services.agent.legs.sip_settings import codecs_named
from services.agent.media_quality import Reception
from tests.integration.phone import CODEC_FORMATS, RATE, phone
from tests.integration.sip_bots import Pcm, ToneBot, endpoint, has_tone, hears_nothing, hears_tone, tone, until

needs_phone = pytest.mark.usefixtures("debian_phone")


@pytest.fixture
def debian_phone(require_debian: Callable[..., None]) -> None:
    require_debian("baresip")


async def reinvite(wire: Caller, direction: str) -> None:
    wire.invite(direction)
    await wire.response("INVITE", 200)
    wire.request("ACK")


def samples(pcm: bytearray) -> Pcm:
    return np.frombuffer(bytes(pcm), np.int16)


@needs_phone
@pytest.mark.parametrize("codec", CODEC_FORMATS)
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
        assert leg.output_rate == CODEC_FORMATS[codec][0]


async def test_our_order_of_codecs_decides() -> None:
    bot = ToneBot()
    for order, payload_type in (("pcmu,pcma", 0), ("pcma,pcmu", 8)):
        async with endpoint(bot, codecs=codecs_named(order)) as agent, caller(agent.port) as wire:
            wire.request("OPTIONS")
            offer = (await wire.response("OPTIONS", 200)).text
            assert f"RTP/AVP {payload_type} " in offer


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


async def test_keys_go_by_info_to_a_phone_without_rtp_events() -> None:
    bot = ToneBot()
    async with endpoint(bot) as agent, caller(agent.port) as wire:
        await wire.answered()
        leg = await bot.talking()
        sending = asyncio.create_task(leg.send_dtmf("7"))
        while (info := await wire.message()).method != "INFO":
            pass
        wire.reply(info, "200 OK")
        await sending
        assert "Signal=7" in info.text


async def test_pictures_are_declined_and_the_call_is_taken() -> None:
    bot = ToneBot()
    async with endpoint(bot) as agent, caller(agent.port) as wire:
        wire.more_sdp = "m=video 4000 RTP/AVP 97\r\na=rtpmap:97 VP8/90000\r\n"
        answer = await wire.answered()
        assert "m=video 0 " in answer.text
        await hears_tone(wire, 1000)


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
    """And what is sent to us meanwhile, music on hold, is not heard."""
    bot = ToneBot()
    async with endpoint(bot, rtp_timeout_s=1) as agent, caller(agent.port) as wire:
        await wire.answered()
        await hears_tone(wire, 1000)
        [leg] = bot.legs
        await reinvite(wire, hold)
        await until(lambda: leg.held)
        await hears_nothing(wire)
        before = len(bot.heard[leg])
        await wire.listen(0.6)
        assert len(bot.heard[leg]) == before
        assert not leg.media.write(bytes(320), 8000)
        if hold == "sendonly":  # where the stack would listen for music
            await asyncio.sleep(2.2)  # longer than the RTP timeout and its check, without a packet
        await reinvite(wire, "sendrecv")
        await hears_tone(wire, 1000)
        assert len(bot.heard[leg]) > before
        assert not leg.held
        assert not leg.ended.done()


async def test_we_can_hold_a_call() -> None:
    bot = ToneBot()
    async with endpoint(bot, rtp_timeout_s=1) as agent, caller(agent.port) as wire:
        await wire.answered()
        await hears_tone(wire, 1000)
        leg = await bot.talking()
        for change, direction, answer in ((leg.hold, "sendonly", "recvonly"), (leg.resume, "sendrecv", "sendrecv")):
            await change()
            while (offer := await wire.message()).method != "INVITE" or offer.status:
                pass
            assert f"a={direction}" in offer.text
            assert "m=video" not in offer.text
            wire.accept(offer, answer)
            assert leg.held is (direction == "sendonly")
            if leg.held:
                assert not leg.media.write(bytes(320), 8000)
                await asyncio.sleep(2.2)  # as above
        await hears_tone(wire, 1000)
        await leg.resume()  # no effect
        assert not leg.ended.done()


async def test_a_call_that_is_over_cannot_be_held() -> None:
    bot = ToneBot()
    async with endpoint(bot) as agent, caller(agent.port) as wire:
        await wire.answered()
        leg = await bot.talking()
        await leg.hang_up("done")
        with pytest.raises(LegError, match="not held"):
            await leg.hold()


async def test_a_call_that_begins_on_hold_is_talked_to_when_it_is_connected() -> None:
    bot = ToneBot()
    async with endpoint(bot) as agent, caller(agent.port) as wire:
        await wire.answered("inactive")
        assert not len(await wire.listen(0.4))
        await reinvite(wire, "sendrecv")
        await hears_tone(wire, 1000)


async def test_at_its_end_a_call_tells_how_its_audio_came_in() -> None:
    bot = ToneBot()
    told: list[Reception] = []
    async with endpoint(bot) as agent, caller(agent.port) as wire:
        await wire.answered()
        leg = await bot.talking()
        leg.on_received = told.append
        for number in range(120):
            if 60 <= number < 65:
                next(wire._sequence)  # lost
            else:
                wire.send_rtp()
            await asyncio.sleep(0.02)
        wire.request("BYE")
        await wire.response("BYE", 200)
        await until(lambda: bool(told))
    [reception] = told
    assert 100 < reception.packets <= 115
    assert 5 <= reception.lost < 20
    assert reception.jitter_s >= 0
    assert 1.0 < reception.mos < Reception(reception.packets, 0, 0.0).mos
