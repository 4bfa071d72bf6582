"""Acceptors for tests of the SIP leg alone: they whistle instead of talking, and keep what they hear."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import numpy as np
import numpy.typing as npt

from loadtest.sip.wire import RATE as WIRE_RATE
from loadtest.sip.wire import Caller
from services.agent.legs.base import CallAcceptor, CallRefusedError, Leg, LegError
from services.agent.legs.sip import SipEndpoint, SipLeg, SipSettings

Pcm = npt.NDArray[np.int16]


def tone(hertz: float, seconds: float, rate: int) -> Pcm:
    """A sine at a quarter of full scale."""
    return (8000 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)).astype(np.int16)


def has_tone(pcm: Pcm, rate: int, hertz: float, decibels: float = 20.0) -> bool:
    """Whether half a second or more of audio is this tone, so far above all else.

    By medians over eighths of a second: a busy machine delays a packet now and then.
    """
    window = rate // 8
    pieces = [pcm[start : start + window] for start in range(0, len(pcm) - window + 1, window)]
    if len(pieces) < 4:
        return False
    tones, purities = np.median([_pitch(piece, rate) for piece in pieces], axis=0)
    return bool(abs(tones - hertz) < 3 and purities > decibels)


def _pitch(pcm: Pcm, rate: int) -> tuple[float, float]:
    """Frequency of the strongest tone, and its power over all the rest in decibels."""
    points = 8 * len(pcm)  # interpolates the spectrum
    spectrum = np.abs(np.fft.rfft(pcm * np.hanning(len(pcm)), points)) ** 2
    peak = int(spectrum.argmax())
    near = spectrum[max(0, peak - 24) : peak + 25].sum()
    return peak * rate / points, float(10 * np.log10((near + 1e-9) / max(spectrum.sum() - near, 1e-9)))


async def hears_tone(wire: Caller, hertz: float, timeout_s: float = 20.0) -> None:
    """Waits until a caller hears half a second of this tone."""
    async with asyncio.timeout(timeout_s):
        while not has_tone(await wire.listen(0.6), WIRE_RATE, hertz):
            pass


async def hears_nothing(wire: Caller, timeout_s: float = 20.0) -> None:
    """Waits until no packet comes for half a second."""
    async with asyncio.timeout(timeout_s):
        while len(await wire.listen(0.5)):
            pass


async def until(condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
    """Waits for a condition."""
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.02)


class ToneBot:
    """Answers and whistles.

    Args:
        capacity: calls at once; more are refused.
        gate: calls ring until it is set.
    """

    def __init__(self, hertz: float = 1000, capacity: int = 100, gate: asyncio.Event | None = None) -> None:
        self._hertz = hertz
        self._capacity = capacity
        self._gate = gate
        self.heard: dict[SipLeg, bytearray] = {}
        self.answered: list[SipLeg] = []
        self.unanswered: dict[SipLeg, str] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def legs(self) -> list[SipLeg]:
        """All that came, in their order."""
        return list(self.heard)

    def live(self) -> int:
        """Calls that have not ended."""
        return sum(not leg.ended.done() for leg in self.heard)

    async def talking(self) -> SipLeg:
        """The only call, once it is up: a phone sees its call answered before its ACK has arrived here."""
        await until(lambda: len(self.answered) == 1)
        return self.answered[0]

    async def __call__(self, leg: Leg) -> str:
        """See `CallAcceptor`."""
        assert isinstance(leg, SipLeg)
        if self.live() >= self._capacity:
            raise CallRefusedError("all lines are busy")
        self.heard[leg] = bytearray()
        task = asyncio.create_task(self._talk(leg))
        self._tasks.add(task)
        return leg.sip_call_id

    async def _talk(self, leg: SipLeg) -> None:
        if self._gate is not None:
            await self._gate.wait()
        try:
            await leg.answer()
        except LegError as error:
            self.unanswered[leg] = str(error)
            return
        self.answered.append(leg)
        whistle = tone(self._hertz, 60, leg.output_rate).tobytes()
        packet = leg.output_rate // 50 * 2
        sent = 0
        while not leg.ended.done():
            if leg.media.unsent_s() < 0.06 and leg.media.write(whistle[sent : sent + packet], leg.output_rate):
                sent += packet
            self.heard[leg] += leg.media.read()
            await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def endpoint(acceptor: CallAcceptor, **settings: object) -> AsyncIterator[SipEndpoint]:
    """A running endpoint on a free port of loopback."""
    running = SipEndpoint(SipSettings(port=0, **settings), acceptor)  # type: ignore[arg-type]
    await running.start()
    try:
        yield running
    finally:
        await running.close()
