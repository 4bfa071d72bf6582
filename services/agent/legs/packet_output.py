"""What the outputs of our legs have in common: packets are paced already, and go out as they come."""

from pipecat.frames.frames import Frame, OutputAudioRawFrame
from pipecat.processors.frame_processor import FrameDirection
from pipecat.transports.base_output import BaseOutputTransport


class PacketOutput(BaseOutputTransport):  # type: ignore[misc]  # pipecat is untyped
    """Writes a packet in the moment in which it is pushed.

    pipecat's own sender cuts audio into chunks in a task of its own, which waits for each with a timeout, twice: on a
    loop that many calls share, a voice then gets through at a packet each few rounds of the loop, and stutters.
    """

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Writes audio; all else takes pipecat's way."""
        if isinstance(frame, OutputAudioRawFrame):
            await self.write_audio_frame(frame)
        else:
            await super().process_frame(frame, direction)
