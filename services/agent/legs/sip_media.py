"""One phone call's media as the rest of the agent wants it: 16 kHz mono in, any rate out, keys pressed."""

import asyncio
from collections import deque

import numpy as np
from baresip import AudioNotActive, AudioRestarted, CallAudio

from services.agent.legs.base import INPUT_RATE, PACKET_MS
from services.agent.legs.rates import converter

READ_BYTES = 32_768  # the stack's whole receive buffer
POLL_S = PACKET_MS / 4000  # four times a packet: audio waits an eighth of a packet on average


def lead_s(rate: int) -> float:
    """Seconds of audio of this rate that may wait in the stack: its buffer takes 32 KiB, which are 170 ms of Opus."""
    return 0.24 if rate <= INPUT_RATE else 0.06


class SipMedia:
    """PCM and keys of one call. All calls return at once; use from one event loop.

    Formats follow the negotiated codec: 8 kHz for G.711, 16 kHz for G.722, 48 kHz stereo for Opus. A re-INVITE may
    change them in mid-call; what was buffered then is lost, and the conversion starts anew.
    """

    def __init__(self, audio: CallAudio) -> None:
        self._audio = audio
        self.keys: deque[str] = deque()  # DTMF keys pressed and not yet taken
        self._rx = converter(INPUT_RATE, INPUT_RATE)
        self._rx_channels = 1
        self._tx = converter(INPUT_RATE, INPUT_RATE)
        self._tx_from = INPUT_RATE
        self._tx_channels = 1
        self.output_rate = 0  # hertz; 0 until media is up
        self.held = False  # nothing goes either way: music on hold is not heard, and no word is lost in it
        self._bound = False

    def is_up(self) -> bool:
        """Media flows in both directions, and `output_rate` is known."""
        return self._bound or self._bind()

    def read(self) -> bytes:
        """16-bit mono PCM at `INPUT_RATE` that arrived since the last call; empty when none did."""
        if not self.is_up():
            return b""
        try:
            raw = self._audio.read(READ_BYTES)
        except (AudioRestarted, AudioNotActive):
            self._bound = False
            return b""
        if self.held:
            return b""
        samples = np.frombuffer(raw, dtype=np.int16)
        if self._rx_channels > 1:
            samples = samples.reshape(-1, self._rx_channels).mean(axis=1).astype(np.int16)
        return self._rx.convert(samples).tobytes()

    async def arrival(self) -> None:
        """Waits until there may be something to read."""
        await asyncio.sleep(POLL_S)

    def write(self, pcm: bytes, rate: int) -> bool:
        """Queues 16-bit mono PCM of `rate` hertz for sending, after what is queued; False when it is lost."""
        if self.held or not self.is_up():
            return False
        if rate != self._tx_from:
            self._tx, self._tx_from = converter(rate, self.output_rate), rate
        samples = self._tx.convert(np.frombuffer(pcm, dtype=np.int16))
        if self._tx_channels > 1:
            samples = np.repeat(samples, self._tx_channels)
        raw = samples.tobytes()
        try:
            return bool(self._audio.write(raw) == len(raw))
        except (AudioRestarted, AudioNotActive):
            self._bound = False
            return False

    def unsent_s(self) -> float:
        """Seconds of audio queued and not yet on the wire."""
        try:
            info = self._audio.info()
        except AudioNotActive:
            return 0.0
        return float(info.tx_buffered / (2 * info.tx_channels * info.tx_sample_rate))

    def flush(self) -> None:
        """Drops what is queued: at most the packet being sent now still goes out."""
        if not self._bound:
            return
        try:
            self._audio.flush_tx()
        except (AudioRestarted, AudioNotActive):
            self._bound = False
        self._tx = converter(self._tx_from, self.output_rate)

    def _bind(self) -> bool:
        try:
            info = self._audio.info()
        except AudioNotActive:
            return False
        if not (info.tx_sample_rate and info.rx_sample_rate):
            return False  # the codec is not settled yet; a caller on hold, by contrast, has one and sends nothing
        self._rx = converter(info.rx_sample_rate, INPUT_RATE)
        self._rx_channels = info.rx_channels
        self.output_rate = info.tx_sample_rate
        self._tx, self._tx_from = converter(info.tx_sample_rate, info.tx_sample_rate), info.tx_sample_rate
        self._tx_channels = info.tx_channels
        self._bound = True
        return True
