"""What is heard on a phone call: tones both ways between our SIP leg and Debian's baresip."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from services.agent.legs.base import Leg
from services.agent.legs.sip import SipEndpoint, SipLeg, SipSettings
from tests.integration.phone import RATE, Pcm, installed, phone

pytestmark = pytest.mark.skipif(not installed(), reason="needs Debian's baresip")


def tone(hertz: float, seconds: float, rate: int) -> Pcm:
    return (8000 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)).astype(np.int16)


def pitch(pcm: Pcm, rate: int) -> tuple[float, float]:
    """Frequency of the strongest tone, and its power over all the rest in decibels."""
    spectrum = np.abs(np.fft.rfft(pcm * np.hanning(len(pcm)))) ** 2
    peak = int(spectrum.argmax())
    near = spectrum[max(0, peak - 4) : peak + 5].sum()
    return peak * rate / len(pcm), float(10 * np.log10(near / max(spectrum.sum() - near, 1e-9)))


class ToneBot:
    """Answers and whistles; keeps what it hears."""

    def __init__(self, hertz: float) -> None:
        self.hertz = hertz
        self.heard = bytearray()
        self.legs: list[SipLeg] = []
        self._task: asyncio.Task[None] | None = None

    async def __call__(self, leg: Leg) -> str:
        assert isinstance(leg, SipLeg)
        self.legs.append(leg)
        self._task = asyncio.create_task(self._talk(leg))
        return "call"

    async def _talk(self, leg: SipLeg) -> None:
        await leg.answer()
        whistle = tone(self.hertz, 60, leg.output_rate).tobytes()
        sent = 0
        while not leg.ended.done():
            if leg.media.unsent_s() < 0.06:
                packet = leg.output_rate // 50 * 2
                leg.media.write(whistle[sent : sent + packet], leg.output_rate)
                sent += packet
            self.heard += leg.media.read()
            await asyncio.sleep(0.005)


async def until(condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("codec", ["PCMU", "PCMA"])
async def test_each_side_hears_the_other(tmp_path: Path, codec: str) -> None:
    bot = ToneBot(1000)
    endpoint = SipEndpoint(SipSettings(port=0), bot)
    await endpoint.start()
    try:
        async with phone(tmp_path, codec=codec) as caller:
            await caller.call(f"sip:anyone@127.0.0.1:{endpoint.port}")
            await caller.play(tone(440, 20, RATE))
            await until(lambda: caller.heard_s() > 1.5 and len(bot.heard) > 3 * 32_000)
        assert bot.legs[0].from_ == "sip:phone@127.0.0.1"
        assert bot.legs[0].to == f"sip:anyone@127.0.0.1:{endpoint.port}"
        hertz, decibels = pitch(caller.heard()[-RATE:], RATE)
        assert hertz == pytest.approx(1000, abs=2)
        assert decibels > 30
        hertz, decibels = pitch(np.frombuffer(bot.heard, np.int16)[-16_000:], 16_000)
        assert hertz == pytest.approx(440, abs=2)
        assert decibels > 30
    finally:
        await endpoint.close()
