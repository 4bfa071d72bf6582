"""The bot's track, in virtual time where time matters."""

import asyncio

import numpy as np
import pytest
from aiortc.mediastreams import MediaStreamError

from services.agent.legs.bot_audio import PACKET_BYTES, PACKET_SAMPLES, RATE, SETTLED, BotAudio
from services.agent.legs.opus import OpusDecoder, duration
from tests.unit.agent.test_opus import tone


def speech(packets: int) -> bytes:
    wave = 9000 * np.sin(2 * np.pi * 500 * np.arange(packets * PACKET_SAMPLES) / RATE)
    return bytes(wave.astype(np.int16).tobytes())


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


async def test_what_is_written_goes_out_at_once_and_in_order() -> None:
    clock = Clock()
    audio = BotAudio(clock)
    assert audio.write(speech(10))
    sent = [await audio.recv() for _ in range(10)]
    assert [packet.pts for packet in sent] == [number * PACKET_SAMPLES for number in range(10)]
    assert {duration(bytes(packet)) for packet in sent} == {PACKET_SAMPLES}
    decoder = OpusDecoder(16_000)
    pcm = np.concatenate([decoder.decode(bytes(packet)) for packet in sent])
    assert tone(pcm[640:]) == pytest.approx(500, abs=10)
    audio.stop()


async def test_silence_fills_the_time_until_the_clock_has_caught_up() -> None:
    clock = Clock()
    audio = BotAudio(clock)
    audio.write(speech(3))
    for _ in range(3):
        await audio.recv()
    waiting = asyncio.create_task(audio.recv())
    await asyncio.sleep(0.01)
    assert not waiting.done(), "60 ms are out, and none has passed"
    waiting.cancel()
    clock.now = 0.06
    packet = await asyncio.wait_for(audio.recv(), 5)
    assert packet.pts == 3 * PACKET_SAMPLES
    audio.stop()


async def test_silence_that_came_too_late_is_left_out_and_speech_is_not() -> None:
    clock = Clock()
    audio = BotAudio(clock)
    await audio.recv()
    clock.now = 5.0  # held up
    await asyncio.wait_for(audio.recv(), 5)
    waiting = asyncio.create_task(audio.recv())
    await asyncio.sleep(0.01)
    assert not waiting.done(), "no burst of silence"
    audio.write(speech(2))
    assert (await waiting).pts == 2 * PACKET_SAMPLES
    assert (await audio.recv()).pts == 3 * PACKET_SAMPLES
    audio.stop()


async def test_a_flush_drops_what_was_not_sent() -> None:
    clock = Clock()
    audio = BotAudio(clock)
    audio.write(speech(5))
    await audio.recv()
    audio.flush()
    decoder = OpusDecoder(16_000)
    for number in range(1, 5):  # the codec rings for a moment
        clock.now = number * 0.02
        pcm = decoder.decode(bytes(await audio.recv()))
    assert np.abs(pcm).max() < 300
    audio.stop()


async def test_a_stopped_track_takes_nothing_and_releases_who_waits() -> None:
    audio = BotAudio(Clock())
    await audio.recv()
    waiting = asyncio.create_task(audio.recv())
    await asyncio.sleep(0)
    audio.stop()
    with pytest.raises(MediaStreamError):
        await asyncio.wait_for(waiting, 5)
    assert not audio.write(bytes(PACKET_BYTES))


async def test_silence_that_goes_on_is_one_packet_again_and_again_and_speech_after_it_is_whole() -> None:
    """To encode silence takes as long as speech; a decoder must not hear that it was not."""
    clock = Clock()
    audio, decoder = BotAudio(clock), OpusDecoder(16_000)
    audio.write(speech(5))
    sent = [bytes(await audio.recv()) for _ in range(5)]
    for number in range(5, 60):
        clock.now = number * PACKET_SAMPLES / RATE
        packet = await asyncio.wait_for(audio.recv(), 5)
        assert packet.pts == number * PACKET_SAMPLES
        sent.append(bytes(packet))
    assert len(set(sent[5 + SETTLED :])) == 1
    audio.write(speech(10))
    again = [bytes(await audio.recv()) for _ in range(10)]
    heard = [decoder.decode(packet) for packet in [*sent, *again]]
    assert np.abs(np.concatenate(heard[20:60]).astype(np.int32)).max() < 50, "silent, to the last packet"
    assert tone(np.concatenate(heard[62:])) == pytest.approx(500, abs=10)
    assert np.abs(np.concatenate(heard[62:]).astype(np.int32)).max() == pytest.approx(9000, rel=0.3)
    audio.stop()


async def test_what_is_less_than_a_packet_is_not_lost_in_silence() -> None:
    clock = Clock()
    audio, decoder = BotAudio(clock), OpusDecoder(16_000)
    for number in range(SETTLED + 5):
        clock.now = number * PACKET_SAMPLES / RATE
        decoder.decode(bytes(await asyncio.wait_for(audio.recv(), 5)))
    clock.now += PACKET_SAMPLES / RATE
    audio.write(speech(1)[: PACKET_BYTES // 2])
    heard = [decoder.decode(bytes(await asyncio.wait_for(audio.recv(), 5)))]
    clock.now += PACKET_SAMPLES / RATE
    heard.append(decoder.decode(bytes(await asyncio.wait_for(audio.recv(), 5))))  # the encoder looks ahead
    assert np.abs(np.concatenate(heard).astype(np.int32)).max() > 3000
    audio.stop()
