"""A phone call's media as a pipecat transport."""

import asyncio
import logging
from collections import deque
from typing import Protocol

from pipecat.audio.dtmf.types import KeypadEntry
from pipecat.frames.frames import (
    CancelFrame,
    EndFrame,
    Frame,
    InputAudioRawFrame,
    InputDTMFFrame,
    InterruptionFrame,
    OutputAudioRawFrame,
    StartFrame,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessorSetup
from pipecat.transports.base_input import BaseInputTransport
from pipecat.transports.base_transport import BaseTransport, TransportParams

from services.agent.legs.base import INPUT_RATE, PACKET_MS
from services.agent.legs.hold import HoldFrame
from services.agent.legs.packet_output import PacketOutput

log = logging.getLogger(__name__)

FRAME_BYTES = INPUT_RATE * PACKET_MS // 1000 * 2


class Line(Protocol):
    """A phone call's PCM and keys; `SipMedia` has them at hand, `RemoteMedia` from another process."""

    output_rate: int
    keys: deque[str]
    held: bool

    def read(self) -> bytes:
        """What arrived: 16-bit mono PCM at `INPUT_RATE`."""

    async def arrival(self) -> None:
        """Waits until there may be something to read, a key, or a hold or its end."""

    def write(self, pcm: bytes, rate: int) -> bool:
        """Sends 16-bit mono PCM of `rate` hertz; False when it is lost."""

    def flush(self) -> None:
        """Drops what is not sent yet."""


class SipTransport(BaseTransport):  # type: ignore[misc]  # pipecat is untyped
    """Both directions of one call."""

    def __init__(self, media: Line) -> None:
        super().__init__(name="sip")
        params = TransportParams(
            audio_in_enabled=True,
            audio_in_sample_rate=INPUT_RATE,
            audio_out_enabled=True,
            audio_out_10ms_chunks=PACKET_MS // 10,
            audio_out_end_silence_secs=0,
        )
        self._input = SipInput(media, params)
        self._output = SipOutput(media, params)

    def input(self) -> "SipInput":
        """Pushes the caller's audio and keys."""
        return self._input

    def output(self) -> "SipOutput":
        """Takes the bot's audio."""
        return self._output


class SipInput(BaseInputTransport):  # type: ignore[misc]
    """Frames of 20 ms at `INPUT_RATE` as the jitter buffer releases them; none while the far end sends nothing."""

    def __init__(self, media: Line, params: TransportParams) -> None:
        super().__init__(params)
        self._media = media
        self._receiver: asyncio.Task[None] | None = None

    async def start(self, frame: StartFrame) -> None:
        """Begins to receive."""
        await super().start(frame)
        if self._receiver is None:
            self._receiver = self.create_task(self._receive())

    async def stop(self, frame: EndFrame) -> None:
        """Receives no more."""
        await self._stop_receiving()
        await super().stop(frame)

    async def cancel(self, frame: CancelFrame) -> None:
        """Receives no more."""
        await self._stop_receiving()
        await super().cancel(frame)

    async def cleanup(self) -> None:
        """Receives no more."""
        await self._stop_receiving()
        await super().cleanup()

    async def _stop_receiving(self) -> None:
        if self._receiver is not None:
            receiver, self._receiver = self._receiver, None
            await self.cancel_task(receiver)

    async def _receive(self) -> None:
        pending = bytearray()
        held = False
        while True:
            if self._media.held != held:
                held = self._media.held
                await self.push_frame(HoldFrame(held=held))
            pending += self._media.read()
            while len(pending) >= FRAME_BYTES:
                pcm = bytes(pending[:FRAME_BYTES])
                del pending[:FRAME_BYTES]
                await self.push_frame(InputAudioRawFrame(audio=pcm, sample_rate=INPUT_RATE, num_channels=1))
            while self._media.keys:
                await self._push_key(self._media.keys.popleft())
            await self._media.arrival()

    async def _push_key(self, key: str) -> None:
        try:
            button = KeypadEntry(key)
        except ValueError:  # A to D exist in RFC 4733, and on no keypad that pipecat knows
            log.info("a key without a meaning here was pressed")
            return
        await self.push_frame(InputDTMFFrame(button=button))


class SipOutput(PacketOutput):
    """Sends packets at once, in the order of their coming; the stack's own clock puts them on the wire."""

    def __init__(self, media: Line, params: TransportParams) -> None:
        super().__init__(params, enable_direct_mode=True)
        self._media = media

    async def setup(self, setup: FrameProcessorSetup) -> None:
        """Takes the codec's rate as the rate of its packets, once the call is answered."""
        self._params.audio_out_sample_rate = self._media.output_rate or None
        await super().setup(setup)

    async def start(self, frame: StartFrame) -> None:
        """Is ready at once."""
        await super().start(frame)
        await self.set_transport_ready(frame)

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Drops unsent audio at an interruption."""
        await super().process_frame(frame, direction)
        if isinstance(frame, InterruptionFrame):
            self._media.flush()

    async def write_audio_frame(self, frame: OutputAudioRawFrame) -> bool:
        """Queues one packet; False when the call has no media (any more)."""
        return self._media.write(frame.audio, frame.sample_rate)
