"""A phone on the RTP clock: every packet has its place by its timestamp, and the kernel's time of arrival.

It can be a bad phone: what it plays comes back into its microphone, weaker and later. A thread of its own keeps its
clock; what the test's event loop does meanwhile moves nothing.
"""

import asyncio
import contextlib
import socket
import struct
import threading
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from loadtest.sip.wire import PACKET, RATE, Caller, Pcm, caller, mu_law

PACKET_S = PACKET / RATE
SO_TIMESTAMPNS = 35
LOUD = 60  # of 32768: above the noise of a codec, below the softest sound of speech
_LEVELS = mu_law(bytes(range(256))).astype(np.int32)
_ORDER = np.argsort(_LEVELS, kind="stable")
_BORDERS = (_LEVELS[_ORDER][1:] + _LEVELS[_ORDER][:-1]) / 2


def to_mu_law(pcm: npt.NDArray[np.float64]) -> bytes:
    """G.711 mu-law of samples in 16-bit scale: the nearest level."""
    return bytes(_ORDER[np.searchsorted(_BORDERS, pcm)].astype(np.uint8))


@dataclass(frozen=True)
class Packet:
    """One that came.

    Attributes:
        place: of its first sample on the phone's clock.
        unix: when it arrived, by the kernel.
    """

    place: int
    unix: float
    pcm: Pcm

    @property
    def loud(self) -> bool:
        return bool(np.abs(self.pcm.astype(np.int32)).max() > LOUD)


class WirePhone:
    """One call. Make it with `wire_phone`.

    Args:
        echo: gain and delay (seconds) at which what is heard gets into the microphone; None: a good phone.
    """

    def __init__(self, wire: Caller, echo: tuple[float, float] | None) -> None:
        self._wire = wire
        self._echo = echo
        self._socket, self._far_end = wire.rtp
        self._socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self._lock = threading.Lock()
        self._saying: list[tuple[int, Pcm]] = []  # place of the first sample, samples
        self._first: int | None = None  # RTP timestamp at place 0 of what is heard
        self._offset = 0
        self.packets: list[Packet] = []
        self.sent = 0  # samples: the phone's clock
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="wire-phone")
        self._thread.start()

    def say(self, pcm: Pcm, at: int | None = None) -> int:
        """Says 16-bit PCM at `RATE` from a place on its clock on (now if none); returns the place after it."""
        with self._lock:
            begin = max(self.sent, at if at is not None else self.sent)
            self._saying.append((begin, pcm))
            return begin + len(pcm)

    def heard(self, begin: int = 0, end: int | None = None) -> Pcm:
        """What was heard, by its places; zeros where no packet came."""
        packets = list(self.packets)
        last = end if end is not None else max((packet.place + PACKET for packet in packets), default=begin)
        whole = np.zeros(max(0, last - begin), np.int16)
        for packet in packets:
            if begin <= packet.place and packet.place + PACKET <= last:
                whole[packet.place - begin : packet.place - begin + PACKET] = packet.pcm
        return whole

    async def until_loud(self, since: int, seconds: float = 0.1, timeout_s: float = 60.0) -> int:
        """The place where the bot began to be heard, at or after `since`, once it is heard for so long."""
        async with asyncio.timeout(timeout_s):
            while True:
                loud = [packet.place for packet in self.packets if packet.place >= since and packet.loud]
                if loud and len(loud) * PACKET_S >= seconds:
                    return loud[0]
                await asyncio.sleep(0.01)

    async def until_quiet(self, seconds: float = 1.0, timeout_s: float = 120.0) -> int:
        """The place after the bot's last sound, once it was quiet for so long."""
        async with asyncio.timeout(timeout_s):
            while True:
                loud = [packet.place for packet in self.packets if packet.loud]
                if loud and self.packets[-1].place - loud[-1] >= seconds * RATE:
                    return loud[-1] + PACKET
                await asyncio.sleep(0.02)

    def close(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        begun = time.monotonic()
        while not self._stop.is_set():
            self._receive()
            due = begun + (self.sent + PACKET) / RATE
            if (wait := due - time.monotonic()) > 0:
                time.sleep(min(wait, 0.005))
                continue
            self._wire.send_rtp(to_mu_law(self._microphone()))
            with self._lock:
                self.sent += PACKET

    def _receive(self) -> None:
        while True:
            try:
                data, ancillary, _, _ = self._socket.recvmsg(2048, 64)
            except BlockingIOError:
                return
            seconds, nanoseconds = struct.unpack("qq", ancillary[0][2][:16])
            timestamp = int.from_bytes(data[4:8], "big")
            if self._first is None:
                self._first, self._offset = timestamp, self.sent
            place = (timestamp - self._first + (1 << 31)) % (1 << 32) - (1 << 31) + self._offset
            self.packets.append(Packet(place, seconds + nanoseconds / 1e9, mu_law(data[12 : 12 + PACKET])))

    def _microphone(self) -> npt.NDArray[np.float64]:
        begin, end = self.sent, self.sent + PACKET
        samples = np.zeros(PACKET)
        with self._lock:
            for start, pcm in self._saying:
                piece = pcm[max(0, begin - start) : max(0, end - start)]
                if len(piece):
                    place = max(0, start - begin)
                    samples[place : place + len(piece)] += piece
        if self._echo is not None:
            gain, delay_s = self._echo
            late = begin - round(delay_s * RATE)
            for packet in self.packets[-30:]:
                place = packet.place - late
                if -PACKET < place < PACKET:
                    piece = packet.pcm[max(0, -place) : PACKET - max(0, place)]
                    samples[max(0, place) : max(0, place) + len(piece)] += gain * piece
        return samples.clip(-32768, 32767)


@contextlib.asynccontextmanager
async def wire_phone(sip_port: int, echo: tuple[float, float] | None = None) -> AsyncIterator[WirePhone]:
    """A call to an agent on loopback, answered; hung up at the end."""
    async with caller(sip_port) as wire:
        await wire.answered()
        phone = WirePhone(wire, echo)
        try:
            yield phone
        finally:
            phone.close()
            wire.request("BYE")
