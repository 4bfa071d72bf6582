"""A WebRTC caller's audio: RTP packets from aiortc's receiver in, frames of 16 kHz PCM out, losses concealed.

aiortc's own jitter buffer waits sixteen packets for a lost one and conceals nothing (aiortc issues 543 and 775). It is
replaced in the one receiver that it belongs to, where aiortc itself keeps it; pipecat does the same for video. What
this relies on is checked when a receiver is taken over, so that another aiortc fails at the first call, and not
silently.
"""

import asyncio
import fractions
import time
from collections import deque
from collections.abc import Callable

import numpy as np
from aiortc import RTCRtpReceiver
from aiortc.jitterbuffer import JitterBuffer as AiortcJitterBuffer
from aiortc.mediastreams import MediaStreamError
from aiortc.rtp import RtpPacket
from av import AudioFrame

from services.agent.legs.base import INPUT_RATE
from services.agent.legs.catch_up import CatchUp, Pcm
from services.agent.legs.jitter import JitterBuffer, JitterCounts, Kind, Step
from services.agent.legs.opus import RTP_CLOCK, OpusDecoder, OpusError, duration

BUFFER_ATTRIBUTE = "_RTCRtpReceiver__jitter_buffer"
HOLD_S, FADE_S = 0.06, 0.14  # concealment goes on for so long, and then fades: a guess must not become a hum
BACKLOG = 250  # frames that wait for a busy pipeline: 5 s; then the oldest are dropped
TICKS_PER_SAMPLE = RTP_CLOCK // INPUT_RATE
TIME_BASE = fractions.Fraction(1, INPUT_RATE)


class CallerAudio:
    """A track as pipecat reads one, and a jitter buffer as aiortc feeds one.

    Args:
        receiver: of audio, not yet read by anyone; its only codec is Opus.
        clock: steady, seconds.
    """

    kind = "audio"

    def __init__(self, receiver: RTCRtpReceiver, clock: Callable[[], float] = time.monotonic) -> None:
        if not isinstance(getattr(receiver, BUFFER_ATTRIBUTE, None), AiortcJitterBuffer):
            raise RuntimeError("this aiortc keeps its jitter buffer elsewhere; see docs/adr/0010")
        setattr(receiver, BUFFER_ATTRIBUTE, self)
        self._clock = clock
        self._buffer = JitterBuffer()
        self._decoder = OpusDecoder(INPUT_RATE)
        self._catch_up = CatchUp(INPUT_RATE)
        self._source: int | None = None
        self._frames: deque[Pcm] = deque(maxlen=BACKLOG)
        self._changed = asyncio.Event()
        self._stopped = False
        self._samples = 0
        self._guessed = 0  # samples of concealment in a row
        self.last_packet = clock()  # when the latest one came

    @property
    def counts(self) -> JitterCounts:
        """What came, and what was missing."""
        return self._buffer.counts

    def add(self, packet: RtpPacket) -> tuple[bool, None]:
        """Takes a packet from the receiver; never asks for a picture, and never has a frame for its decoder."""
        self.last_packet = now = self._clock()
        if packet.ssrc != self._source:
            self._source = packet.ssrc
            self._buffer.restart()
        try:
            ticks = duration(packet.payload)
        except OpusError:
            return False, None
        self._buffer.put(packet.sequence_number, packet.timestamp, ticks, packet.payload, now)
        self._play(now)
        return False, None

    async def recv(self) -> AudioFrame:
        """The next frame, about 20 ms.

        Raises:
            MediaStreamError: there will be none.
        """
        return self._frame(await self.read())

    async def read(self) -> Pcm:
        """The same as 16 kHz PCM.

        Raises:
            MediaStreamError: there will be none.
        """
        while not self._frames:
            if self._stopped:
                raise MediaStreamError
            self._changed.clear()
            now = self._clock()
            self._play(now)
            if self._frames:
                break
            wake_at = self._buffer.wake_at(now)
            try:
                async with asyncio.timeout(None if wake_at is None else max(0.001, wake_at - now)):
                    await self._changed.wait()
            except TimeoutError:
                continue
        return self._frames.popleft()

    def is_enabled(self) -> bool:
        """Always: a caller who mutes sends silence."""
        return True

    def stop(self) -> None:
        """Nothing more comes."""
        self._stopped = True
        self._changed.set()

    def _play(self, now: float) -> None:
        for step in self._buffer.poll(now):
            pcm = self._sound(step)
            shorter = self._catch_up.shorten(pcm, self._buffer.owed // TICKS_PER_SAMPLE if step.payload else 0)
            self._buffer.repaid((len(pcm) - len(shorter)) * TICKS_PER_SAMPLE)
            if len(shorter):
                self._frames.append(shorter)
                self._changed.set()

    def _sound(self, step: Step) -> Pcm:
        try:
            match step.kind:
                case Kind.DECODE:
                    self._guessed = 0
                    return self._decoder.decode(step.payload)
                case Kind.RECOVER:
                    self._guessed = 0
                    return self._decoder.recover(step.payload, step.ticks)
                case Kind.CONCEAL:
                    return self._faded(self._decoder.conceal(step.ticks))
                case Kind.RESET:
                    self._decoder = OpusDecoder(INPUT_RATE)
                    return np.zeros(0, np.int16)
        except OpusError:
            return np.zeros(step.ticks // TICKS_PER_SAMPLE, np.int16)

    def _faded(self, guess: Pcm) -> Pcm:
        at = (np.arange(len(guess)) + self._guessed) / INPUT_RATE
        self._guessed += len(guess)
        gain = np.clip(1 - (at - HOLD_S) / FADE_S, 0.0, 1.0)
        return np.rint(guess * gain).astype(np.int16)

    def _frame(self, pcm: Pcm) -> AudioFrame:
        frame = AudioFrame.from_ndarray(pcm[None, :], format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = INPUT_RATE, self._samples, TIME_BASE
        self._samples += len(pcm)
        return frame
