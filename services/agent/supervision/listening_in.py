"""Listening in on a live call: both sides on one clock, a moment late, for any number of listeners.

The call's pipeline is tapped only while somebody listens, by pipecat's own events, and nothing in it ever waits for a
listener.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator

import numpy as np
from pipecat.frames.frames import Frame, InputAudioRawFrame, InterruptionFrame, OutputAudioRawFrame
from pipecat.processors.frame_processor import FrameProcessor

from services.agent.legs.base import INPUT_RATE
from services.agent.legs.rates import converter
from services.agent.recording.timeline import Timeline
from services.agent.supervision.earpiece import Earpiece

RATE = INPUT_RATE
CHUNK_S = 0.06
HOLD_S = 0.4  # what is heard trails the call by this
SETTLE_S = 0.25
PUSHED = "on_before_push_frame"


class ListeningIn:
    """One call's listeners.

    Args:
        muted: nobody is to hear what is said now.
        clock: steady, seconds.
    """

    def __init__(self, call_id: str, muted: Callable[[], bool], clock: Callable[[], float] = time.monotonic) -> None:
        self._call_id = call_id
        self._muted = muted
        self._clock = clock
        self._sides: tuple[FrameProcessor, FrameProcessor] | None = None
        self._timeline: Timeline | None = None
        self._bot_rate = 0
        self._from_bot = converter(RATE, RATE)
        self._earpieces: set[Earpiece] = set()
        self._pumping: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def listeners(self) -> int:
        """How many there are."""
        return len(self._earpieces)

    def connect(self, caller: FrameProcessor, bot: FrameProcessor) -> None:
        """The call is answered.

        Args:
            caller: pushes the caller's audio.
            bot: pushes what goes to the caller, and interruptions of it.
        """
        self._sides = caller, bot
        if self._earpieces:
            self._begin(caller, bot)

    @contextlib.contextmanager
    def join(self) -> Iterator[Earpiece]:
        """What is heard from now on, or from the answer on; it ends with the call."""
        earpiece = Earpiece(RATE)
        if self._closed:
            earpiece.close()
            yield earpiece
            return
        if not self._earpieces and self._sides is not None:
            self._begin(*self._sides)
        self._earpieces.add(earpiece)
        earpiece.put(np.zeros((int(CHUNK_S * RATE), 2), np.int16))  # a listener knows at once that they are through
        try:
            yield earpiece
        finally:
            self._earpieces.discard(earpiece)
            if not self._earpieces:
                self._end()

    def close(self) -> None:
        """The call is over. Idempotent."""
        self._closed = True
        self._end()
        for earpiece in self._earpieces:
            earpiece.close()

    def _begin(self, caller: FrameProcessor, bot: FrameProcessor) -> None:
        self._timeline = Timeline(RATE, self._clock(), HOLD_S, SETTLE_S)
        self._bot_rate = 0
        caller.add_event_handler(PUSHED, self._from_caller)
        bot.add_event_handler(PUSHED, self._to_caller)
        self._pumping = asyncio.create_task(self._pump(self._timeline), name=f"listening-in-{self._call_id}")

    def _end(self) -> None:
        self._timeline = None
        if self._pumping is not None:
            self._pumping.cancel()
            self._pumping = None
        if self._sides is not None:
            caller, bot = self._sides
            caller.remove_event_handler(PUSHED, self._from_caller)
            bot.remove_event_handler(PUSHED, self._to_caller)
            if self._closed:
                self._sides = None

    def _from_caller(self, _: FrameProcessor, frame: Frame) -> None:
        if self._timeline is not None and isinstance(frame, InputAudioRawFrame):
            pcm = np.frombuffer(frame.audio, np.int16)
            self._timeline.caller(self._clock(), np.zeros_like(pcm) if self._muted() else pcm)

    def _to_caller(self, _: FrameProcessor, frame: Frame) -> None:
        timeline = self._timeline
        if timeline is None:
            return
        if isinstance(frame, InterruptionFrame):
            timeline.interrupt(self._clock())
        elif isinstance(frame, OutputAudioRawFrame) and not self._muted():
            if frame.sample_rate != self._bot_rate:
                self._bot_rate, self._from_bot = frame.sample_rate, converter(frame.sample_rate, RATE)
            timeline.bot(self._clock(), self._from_bot.convert(np.frombuffer(frame.audio, np.int16)))

    async def _pump(self, timeline: Timeline) -> None:
        while True:
            await asyncio.sleep(CHUNK_S)
            for block in timeline.take(self._clock()):
                for earpiece in self._earpieces:
                    earpiece.put(block)
