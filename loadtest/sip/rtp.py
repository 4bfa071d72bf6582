"""RTP as a phone sends and reads it (RFC 3550), telephone events included (RFC 4733)."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from loadtest.sip.talker import LOUD
from loadtest.sip.wire import KEYS_TYPE, PACKET, mu_law

KEYS = "0123456789*#ABCD"  # by event code
KEY_PACKETS = 5  # 100 ms
END_PACKETS = 3  # the end of an event is sent three times (RFC 4733 section 2.5.1.4)
KEY_PAUSE = 3  # packets between two keys
VOLUME = 10  # dBm0 below full scale
_HEADER = struct.Struct("!BBHII")
_LOUD = bytes(int(abs(int(value)) > LOUD) for value in mu_law(bytes(range(256))).astype(np.int32))


@dataclass
class Sender:
    """Numbers and stamps packets; the clock is its caller's: one packet each 20 ms.

    Attributes:
        source: SSRC.
    """

    source: int
    sequence: int = 0
    timestamp: int = 0
    _keys: list[tuple[int, bool, int, bool]] = field(default_factory=list)  # code, first, packets so far, end
    _began: int = 0

    def packet(self, payload: bytes) -> bytes:
        """Mu-law of 20 ms, or a key in its place while one is pressed."""
        kind, body, stamp = 0, payload, self.timestamp
        if self._keys:
            code, first, packets, end = self._keys.pop(0)
            if packets:
                if first:
                    self._began = self.timestamp
                kind = KEYS_TYPE | (0x80 if first else 0)
                body = struct.pack("!BBH", code, (0x80 if end else 0) | VOLUME, packets * PACKET)
                stamp = self._began
        data = _HEADER.pack(0x80, kind, self.sequence, stamp, self.source) + body
        self.skip()
        return data

    def skip(self) -> None:
        """Goes on by one packet that is not sent."""
        self.sequence = (self.sequence + 1) & 0xFFFF
        self.timestamp = (self.timestamp + PACKET) & 0xFFFFFFFF

    def press(self, keys: str) -> int:
        """Presses keys with the next packets; returns how many packets that takes.

        Raises:
            ValueError: there is no such key.
        """
        for key in keys:
            self._keys += _event(KEYS.index(key))
        return len(self._keys)


def _event(code: int) -> Iterator[tuple[int, bool, int, bool]]:
    for number in range(1, KEY_PACKETS + 1):
        yield code, number == 1, number, False
    for _ in range(END_PACKETS):
        yield code, False, KEY_PACKETS, True
    for _ in range(KEY_PAUSE):
        yield code, False, 0, False


def read(data: bytes) -> tuple[int, int, int, bytes] | None:
    """Payload type, sequence number, timestamp and payload of a packet; None when it is none of RTP version 2."""
    if len(data) < _HEADER.size or data[0] >> 6 != 2:
        return None
    first, kind, sequence, timestamp, _ = _HEADER.unpack_from(data)
    start = _HEADER.size + 4 * (first & 0x0F)
    if first & 0x10:
        if len(data) < start + 4:
            return None
        start += 4 + 4 * int.from_bytes(data[start + 2 : start + 4], "big")
    end = len(data) - (data[-1] if first & 0x20 else 0)
    return kind & 0x7F, sequence, timestamp, data[start:end]


def is_loud(payload: bytes) -> bool:
    """Whether there is sound in mu-law."""
    return 1 in payload.translate(_LOUD)
