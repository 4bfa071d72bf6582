"""How the audio of a call gets through over RTP, as receivers count it, and what that means for a listener. Pure."""

from dataclasses import dataclass

from services.agent.e_model import G711, Codec, mos, rating
from services.agent.events import Quality, Stream


@dataclass(frozen=True)
class Reception:
    """What a receiver says at the end of a call.

    Attributes:
        packets: that came.
        lost: that did not.
        jitter_s: interarrival jitter (RFC 3550 section 6.4.1), seconds.
        delay_s: one way, as far as it is known, seconds.
        codec: what loss does to it.
    """

    packets: int
    lost: int
    jitter_s: float
    delay_s: float = 0.0
    codec: Codec = G711

    @property
    def mos(self) -> float:
        """Estimated mean opinion score, 1 to 4.5."""
        lost = max(0, self.lost)
        expected = self.packets + lost
        return mos(rating(lost / expected if expected else 0.0, self.codec, self.delay_s))


@dataclass(frozen=True)
class Measured:
    """What is known of a call's audio in its middle; counts are since its beginning.

    Attributes:
        received: as counted here; None where nobody counts.
        sent: as the far end reports; None while it does not.
        round_trip_s: None while it is not known.
    """

    received: Reception | None = None
    sent: Reception | None = None
    round_trip_s: float | None = None


class QualityMeter:
    """Makes of counts since a call's beginning what matters to a watcher: how it is of late."""

    def __init__(self) -> None:
        self._received = _Lately()
        self._sent = _Lately()

    def take(self, measured: Measured) -> Quality:
        """The quality since the last time."""
        received, sent = self._received.take(measured.received), self._sent.take(measured.sent)
        return Quality(received, sent, measured.round_trip_s)


class _Lately:
    """One direction."""

    def __init__(self) -> None:
        self._before = Reception(0, 0, 0.0)
        self._told: Stream | None = None

    def take(self, now: Reception | None) -> Stream | None:
        if now is None or (self._told is not None and now == self._before):
            return self._told  # nothing new was reported
        before = self._before
        if now.packets < before.packets:
            before = Reception(0, 0, 0.0)  # another connection, which counts anew
        packets, lost = now.packets - before.packets, max(0, now.lost - before.lost)
        loss = lost / (packets + lost) if packets + lost else 0.0
        lately = Reception(packets, lost, now.jitter_s, now.delay_s, now.codec)
        self._before = now
        self._told = Stream(now.packets, max(0, now.lost), round(loss, 4), round(now.jitter_s, 4), round(lately.mos, 2))
        return self._told
