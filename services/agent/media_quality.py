"""How the audio of a call came in over RTP, as its receiver counted it, and what that means for a listener."""

from dataclasses import dataclass

from services.agent.e_model import G711, Codec, mos, rating


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
