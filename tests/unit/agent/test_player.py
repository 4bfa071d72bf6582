import asyncio

import numpy as np

from services.agent.player import Media, Player

PCM_RATE = 22_050
RATE = 8_000


class Clock:
    """Runs a hundred times as fast as the wall's."""

    def __init__(self) -> None:
        self._start = asyncio.get_running_loop().time()

    def __call__(self) -> float:
        return (asyncio.get_running_loop().time() - self._start) * 100


def tone(seconds: float) -> bytes:
    t = np.arange(int(seconds * PCM_RATE)) / PCM_RATE
    return bytes((8000 * np.sin(2 * np.pi * 440 * t)).astype("<i2").tobytes())


class Line:
    def __init__(self) -> None:
        self.packets: list[bytes] = []
        self.first = 0
        self.player = Player(PCM_RATE, Clock(), self._first)

    def _first(self) -> None:
        self.first += 1

    async def _send(self, packet: bytes) -> None:
        self.packets.append(packet)

    @property
    def media(self) -> Media:
        return Media(RATE, self._send)


async def test_what_was_pushed_before_and_after_the_answer_comes_out_resampled() -> None:
    line = Line()
    line.player.push(tone(1.0), 12)
    assert not line.player.audible
    running = asyncio.create_task(line.player.run(line.media))
    await asyncio.sleep(0)
    line.player.push(tone(1.0), 25)
    line.player.complete()
    await asyncio.wait_for(running, 10)
    wave = np.frombuffer(b"".join(line.packets), "<i2").astype(float)
    assert abs(len(wave) - 2 * RATE) <= RATE // 50
    spectrum = np.abs(np.fft.rfft(wave[:RATE]))
    assert abs(int(spectrum.argmax()) - 440) <= 1
    assert {len(packet) for packet in line.packets} == {RATE // 50 * 2}
    assert line.first == 1
    assert line.player.stop().tokens == 25


async def test_a_leg_that_takes_back_gets_more_ahead() -> None:
    class Queue:
        lead_s = 0.24
        dropped = 0

        def unsent_s(self) -> float:
            return 0.0

        def drop_unsent(self) -> None:
            self.dropped += 1

    line, queue = Line(), Queue()
    line.player = Player(PCM_RATE, lambda: 0.0, lambda: None)
    line.player.push(tone(1.0), 12)
    running = asyncio.create_task(line.player.run(Media(RATE, line._send, queue)))
    while len(line.packets) < 12:
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert len(line.packets) == 12, "240 ms"
    assert line.player.stop().samples == 0
    await asyncio.wait_for(running, 10)
    assert queue.dropped == 1


async def test_a_stop_sends_nothing_more_and_tells_the_same_twice() -> None:
    line = Line()
    line.player.push(tone(30.0), 375)
    running = asyncio.create_task(line.player.run(line.media))
    while len(line.packets) < 20:
        await asyncio.sleep(0)
    assert line.player.audible
    heard = line.player.stop()
    sent = len(line.packets)
    await asyncio.wait_for(running, 10)
    assert len(line.packets) == sent
    assert 0 < heard.tokens < 375
    assert line.player.stop() == heard
    assert not line.player.audible
    line.player.push(tone(1.0), 400)  # a block that was under way
    assert line.player.stop() == heard


async def test_what_is_heard_late_was_heard_less_far() -> None:
    for delay_s, heard_s in ((0.0, 0.05), (0.02, 0.03), (1000.0, 0.0)):
        line, now = Line(), [0.0]
        line.player = Player(PCM_RATE, lambda: now[0], lambda: None)  # noqa: B023
        line.player.push(tone(1.0), 12)
        running = asyncio.create_task(line.player.run(line.media))
        while not line.packets:
            await asyncio.sleep(0)
        now[0] = 0.05
        assert line.player.stop(delay_s).samples == round(heard_s * RATE)
        await asyncio.wait_for(running, 10)


async def test_a_stop_before_the_answer_heard_nothing() -> None:
    line = Line()
    line.player.push(tone(1.0), 12)
    assert line.player.stop().tokens == 0
    await asyncio.wait_for(line.player.run(line.media), 10)
    assert line.packets == []


async def test_an_answer_without_sound_ends_at_once() -> None:
    line = Line()
    line.player.complete()
    await asyncio.wait_for(line.player.run(line.media), 10)
    assert line.packets == []
    assert line.first == 0
