"""Where a call's pipeline is tapped: right behind the leg's input, and right before its output."""

from pipecat.frames.frames import Frame, InputAudioRawFrame, InputDTMFFrame, InterruptionFrame, OutputAudioRawFrame
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor

from services.agent.recording.recording import Recording


class CallerTap(FrameProcessor):  # type: ignore[misc]  # pipecat is untyped
    """Hears what the leg delivers, before any processing. Keys pressed during a pause go no further."""

    def __init__(self, recording: Recording) -> None:
        super().__init__()
        self._recording = recording

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Passes on all but those keys."""
        await super().process_frame(frame, direction)
        if isinstance(frame, InputAudioRawFrame):
            self._recording.caller(frame.audio)
        elif isinstance(frame, InputDTMFFrame) and not self._recording.key(str(frame.button.value)):
            return
        await self.push_frame(frame, direction)


class BotTap(FrameProcessor):  # type: ignore[misc]
    """Hears the packets that reach the leg, and when it is told to drop them."""

    def __init__(self, recording: Recording) -> None:
        super().__init__()
        self._recording = recording

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Passes everything on."""
        await super().process_frame(frame, direction)
        if isinstance(frame, OutputAudioRawFrame):
            self._recording.bot(frame.audio, frame.sample_rate)
        elif isinstance(frame, InterruptionFrame):
            self._recording.interrupt()
        await self.push_frame(frame, direction)


def tapped(stages: list[FrameProcessor], recording: Recording | None) -> list[FrameProcessor]:
    """A call's stages, the leg's input first and its output last, with taps next to both when it is recorded."""
    if recording is None:
        return stages
    first, *between, last = stages
    return [first, CallerTap(recording), *between, BotTap(recording), last]
