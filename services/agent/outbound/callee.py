"""A pipecat processor in front of turn-taking: listens to who has answered, and keeps it from the others till then."""

import asyncio
from collections.abc import Callable

from pipecat.frames.frames import CancelFrame, EndFrame, Frame, InputAudioRawFrame, StartFrame
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor

from services.agent.legs.base import INPUT_RATE
from services.agent.outbound.answering_machine import Callee, Verdict
from services.agent.outbound.tone import ToneDetector
from services.agent.voice_activity import WINDOW_BYTES, WINDOW_SAMPLES, VoiceActivity

WINDOW_S = WINDOW_SAMPLES / INPUT_RATE
TICK_S = 0.25  # a line that sends nothing is looked at so often


class CalleeProcessor(FrameProcessor):  # type: ignore[misc]  # pipecat is not followed by mypy
    """Feeds a `Callee` until it has decided.

    Args:
        on_verdict: takes what it reports.
    """

    def __init__(self, callee: Callee, ears: VoiceActivity, on_verdict: Callable[[Verdict], None]) -> None:
        super().__init__()
        self._callee = callee
        self._ears = ears
        self._on_verdict = on_verdict
        self._tones = ToneDetector()
        self._pending = bytearray()
        self._open = False
        self._heard = False  # audio came since the last tick
        self._ticking: asyncio.Task[None] | None = None

    def open(self) -> None:
        """The conversation begins: audio goes on to turn-taking."""
        self._open = True

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Takes audio until it is open; passes everything else on."""
        await super().process_frame(frame, direction)
        if isinstance(frame, InputAudioRawFrame) and not self._open:
            self._hear(frame.audio)
            return
        if isinstance(frame, StartFrame):
            self._ticking = self.create_task(self._tick())
        elif isinstance(frame, EndFrame | CancelFrame):
            await self._stop()
        await self.push_frame(frame, direction)

    async def cleanup(self) -> None:
        """Frees what the processor holds."""
        await self._stop()
        await super().cleanup()

    async def _stop(self) -> None:
        ticking, self._ticking = self._ticking, None
        if ticking is not None:
            await self.cancel_task(ticking)

    def _hear(self, audio: bytes) -> None:
        self._heard = True
        self._pending += audio
        while len(self._pending) >= WINDOW_BYTES and not self._callee.decided:
            window = bytes(self._pending[:WINDOW_BYTES])
            del self._pending[:WINDOW_BYTES]
            tone = self._tones.is_tone(window)
            self._report(self._callee.window(WINDOW_S, self._ears.confidence(window), tone))
        if self._callee.decided:
            self._pending.clear()

    def _report(self, verdict: Verdict | None) -> None:
        if verdict is not None:
            self._on_verdict(verdict)

    async def _tick(self) -> None:
        while not self._callee.decided:
            await asyncio.sleep(TICK_S)
            if not self._heard:
                self._report(self._callee.silence(TICK_S))
            self._heard = False
