"""Listening in, without a call: frames and time are passed in; the pump alone runs on the real clock."""

import asyncio
from collections.abc import Callable

import numpy as np
from pipecat.frames.frames import Frame, InputAudioRawFrame, InterruptionFrame, OutputAudioRawFrame

from services.agent.recording.timeline import Pcm
from services.agent.supervision.earpiece import BACKLOG_S, GAP_S, Earpiece
from services.agent.supervision.listening_in import PUSHED, RATE, ListeningIn

FRAME = RATE // 50
Handler = Callable[["Side", Frame], None]


class Side:
    """What `ListeningIn` needs of a processor."""

    def __init__(self) -> None:
        self.handlers: list[Handler] = []

    def add_event_handler(self, name: str, handler: Handler) -> None:
        assert name == PUSHED
        self.handlers.append(handler)

    def remove_event_handler(self, name: str, handler: Handler) -> None:
        if handler in self.handlers:
            self.handlers.remove(handler)

    def push(self, frame: Frame) -> None:
        for handler in self.handlers:
            handler(self, frame)


class Call:
    """A call whose time goes on in steps of 20 ms."""

    def __init__(self) -> None:
        self.now = 100.0
        self.muted = False
        self.caller, self.bot = Side(), Side()
        self.listening = ListeningIn("call", lambda: self.muted, lambda: self.now)
        self.listening.connect(self.caller, self.bot)

    def speak(self, frames: int, caller: int = 0, bot: int = 0) -> None:
        for _ in range(frames):
            self.now += 0.02
            pcm = np.full(FRAME, caller, np.int16).tobytes()
            self.caller.push(InputAudioRawFrame(audio=pcm, sample_rate=RATE, num_channels=1))
            if bot:
                pcm = np.full(FRAME // 2, bot, np.int16).tobytes()
                self.bot.push(OutputAudioRawFrame(audio=pcm, sample_rate=RATE // 2, num_channels=1))


def stereo(pieces: list[bytes]) -> Pcm:
    return np.frombuffer(b"".join(pieces), ">i2").astype(np.int16).reshape(-1, 2)


async def take(earpiece: Earpiece, samples: int) -> Pcm:
    pieces: list[bytes] = []
    async with asyncio.timeout(60):
        while sum(map(len, pieces)) < samples * 4:
            pieces.append(await anext(earpiece))
    return stereo(pieces)


async def test_the_caller_is_left_and_the_bot_right_on_one_clock() -> None:
    call = Call()
    with call.listening.join() as earpiece:
        assert not (await anext(earpiece)).strip(b"\0"), "silence at once"
        call.speak(50, caller=1000, bot=2000)
        call.speak(50, caller=1000)
        heard = await take(earpiece, RATE)
    caller, bot = heard[:, 0], heard[:, 1]
    assert (caller == 1000).mean() > 0.9
    said = bot[: RATE * 9 // 10]
    assert (np.abs(said.astype(int) - 2000) < 100).mean() > 0.9, "8 kHz brought to 16"
    assert (bot[-RATE // 20 :] == 0).all() or len(heard) < RATE * 11 // 10


async def test_what_an_interruption_drops_is_not_heard() -> None:
    call = Call()
    with call.listening.join() as earpiece:
        await anext(earpiece)
        call.speak(10, bot=2000)
        for _ in range(5):  # ahead of the clock
            call.bot.push(OutputAudioRawFrame(audio=b"\x01\x02" * FRAME, sample_rate=RATE, num_channels=1))
        call.bot.push(InterruptionFrame())
        call.speak(60)
        heard = await take(earpiece, RATE // 2)
    assert 0.15 < (heard[:, 1] != 0).sum() / RATE <= 0.21


async def test_a_paused_recording_silences_listeners_too() -> None:
    call = Call()
    with call.listening.join() as earpiece:
        await anext(earpiece)
        call.muted = True
        call.speak(80, caller=1000, bot=2000)
        heard = await take(earpiece, RATE)
    assert not heard.any()


async def test_the_pipeline_is_tapped_only_while_somebody_listens() -> None:
    call = Call()
    assert not call.caller.handlers
    with call.listening.join() as one:
        with call.listening.join() as other:
            assert call.listening.listeners == 2
            assert len(call.caller.handlers) == len(call.bot.handlers) == 1
            call.speak(80, caller=1000)
            assert (await take(one, RATE)).any()
            assert (await take(other, RATE)).any()
        assert call.caller.handlers
    assert not call.caller.handlers
    assert not call.bot.handlers
    await asyncio.sleep(0)
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("listening-in")]


async def test_it_ends_with_the_call() -> None:
    call = Call()
    with call.listening.join() as earpiece:
        call.listening.close()
        assert len([piece async for piece in earpiece]) == 1
        assert not call.caller.handlers
    with call.listening.join() as late:
        assert [piece async for piece in late] == []


async def test_who_listens_before_the_answer_hears_what_follows_it() -> None:
    call = Call()
    listening, caller, bot = ListeningIn("call", lambda: False, lambda: call.now), Side(), Side()
    with listening.join() as earpiece:
        await anext(earpiece)
        listening.connect(caller, bot)
        call.caller = caller
        call.speak(80, caller=1000)
        assert (await take(earpiece, RATE)).any()
    assert not caller.handlers


async def test_a_slow_listener_loses_audio_and_is_live_again() -> None:
    earpiece = Earpiece(RATE)
    block = np.full((RATE // 10, 2), 7, np.int16)
    for _ in range(int(BACKLOG_S * 10) + 1):
        earpiece.put(block)
    assert earpiece.dropped_s == BACKLOG_S
    earpiece.close()
    heard = stereo([piece async for piece in earpiece])
    gap = round(GAP_S * RATE)
    assert not heard[:gap].any()
    assert (heard[gap:] == 7).all()
    assert len(heard) == gap + len(block)
    earpiece.put(block)
    assert [piece async for piece in earpiece] == []
