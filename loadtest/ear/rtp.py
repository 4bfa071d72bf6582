"""Loss and jitter of a stream of RTP packets as its receiver counts them (RFC 3550)."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Whole = npt.NDArray[np.int64]
RESTART = 3000  # a jump of sequence numbers that is a new stream, not a loss (RFC 3550 appendix A.1: MAX_DROPOUT)


@dataclass(frozen=True)
class RtpCounts:
    """Of one stream.

    Attributes:
        received, expected: packets; `expected` by sequence numbers, without duplicates.
        jitter_s: interarrival jitter at the end (section 6.4.1), and `most_jitter_s` at its worst.
    """

    received: int
    expected: int
    jitter_s: float
    most_jitter_s: float

    @property
    def lost(self) -> int:
        """Packets that never came."""
        return max(0, self.expected - self.received)


def unwrapped(values: Whole, bits: int) -> Whole:
    """Numbers that go on beyond 2**bits, from such that begin anew there: each the nearest to the one before."""
    if not len(values):
        return values
    half, whole = 1 << (bits - 1), 1 << bits
    steps = (np.diff(values) + half) % whole - half
    return np.concatenate([values[:1], values[0] + np.cumsum(steps)])


def counts(arrived: npt.NDArray[np.float64], sequence: Whole, timestamp: Whole, clock: int) -> RtpCounts:
    """Of packets in the order in which they came.

    Args:
        arrived: seconds.
        clock: hertz of `timestamp`.
    """
    if not len(arrived):
        return RtpCounts(0, 0, 0.0, 0.0)
    numbers, stamps = unwrapped(sequence, 16), unwrapped(timestamp, 32)
    expected = received = 0
    for part in np.split(numbers, np.flatnonzero(np.abs(np.diff(numbers)) >= RESTART) + 1):
        expected += int(part.max() - part.min()) + 1
        received += len(np.unique(part))
    transit = arrived - stamps / clock
    jitter = most = 0.0
    for step in np.abs(np.diff(transit)).tolist():
        if step < 1.0:  # the sender began a new clock
            jitter += (step - jitter) / 16
            most = max(most, jitter)
    return RtpCounts(received, expected, jitter, most)
