"""The E-model (ITU-T G.107, 06/2015), for what a VoIP receiver knows: loss, burstiness and delay. Pure.

All other parameters have the recommendation's default values, with which the basic signal-to-noise ratio less the
simultaneous impairments is 93.2 (section 7.8, table 2). Echo is taken to be cancelled.
"""

import math
from dataclasses import dataclass

DEFAULT_R = 93.2


@dataclass(frozen=True)
class Codec:
    """What a codec does to speech.

    Attributes:
        ie: equipment impairment without loss.
        bpl: robustness against loss.
    """

    ie: float
    bpl: float


# ITU-T G.113 (11/2007) appendix I, tables I.3 and I.4
G711 = Codec(ie=0.0, bpl=4.3)
G711_CONCEALED = Codec(ie=0.0, bpl=25.1)  # G.711 appendix I hides what is missing


def rating(loss: float, codec: Codec, delay_s: float = 0.0, burst_ratio: float = 1.0) -> float:
    """The transmission rating factor R, 0 to 93.2 (equation 7-1).

    Args:
        loss: share of packets that were lost, 0 to 1.
        delay_s: one way, mouth to ear.
        burst_ratio: mean length of a burst of losses to that of random losses; 1 is random (section 7.5).

    Raises:
        ValueError: out of range.
    """
    if not 0 <= loss <= 1 or delay_s < 0 or burst_ratio < 1:
        raise ValueError("0 <= loss <= 1, 0 <= delay_s and 1 <= burst_ratio must hold")
    percent = 100 * loss
    effective = codec.ie + (95 - codec.ie) * percent / (percent / burst_ratio + codec.bpl)  # equation 7-29
    return max(0.0, DEFAULT_R - _delay_impairment(1000 * delay_s) - effective)


def mos(r: float) -> float:
    """The mean opinion score of a rating, 1 to 4.5 (annex B, equation B-4)."""
    if r <= 0:
        return 1.0
    if r >= 100:
        return 4.5
    return max(1.0, 1 + 0.035 * r + r * (r - 60) * (100 - r) * 7e-6)


def _delay_impairment(milliseconds: float) -> float:
    """Idd, from too long a delay (equations 7-27 and 7-28)."""
    if milliseconds <= 100:
        return 0.0
    x = math.log2(milliseconds / 100)
    return float(25 * ((1 + x**6) ** (1 / 6) - 3 * (1 + (x / 3) ** 6) ** (1 / 6) + 2))
