"""The watermark's pattern: which patches of time and frequency are raised, and which are lowered. Pure.

A patchwork (Bender et al. 1996, "Techniques for data hiding") with a keyed spread-spectrum sequence for its signs (Cox
et al. 1997), multiplicative as in Steinebach 2003. Time is cut into cells of 40 ms, the telephone band into eight pairs
of neighbouring bands. A cell of a pair has one secret sign: in its first half the lower band is raised and the upper
one lowered, or the other way round, and in its second half the opposite. So each pair's energy stays the same over
frequency, each band's over time, and what speech changes slowly in either direction cancels when halves and bands are
compared.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

PUBLIC_KEY = b"trunkline"  # so that anyone can find the mark where the operator has set no key
HALF_S = 0.02  # half of a cell
CELLS = 60  # then the pattern begins again
PERIOD_S = 2 * HALF_S * CELLS
PAIRS = 8
LOW_HZ = 375.0
BAND_HZ = 187.5
HIGH_HZ = LOW_HZ + 2 * PAIRS * BAND_HZ  # 3375 Hz: what every telephone line carries
_LABEL = b"trunkline watermark 1"


@dataclass(frozen=True)
class Code:
    """The pattern of one key.

    Attributes:
        signs: +1 or -1 for each cell and pair, shape (CELLS, PAIRS), drawn from the key by SHAKE-256.
    """

    signs: Floats

    @classmethod
    def of(cls, key: bytes = PUBLIC_KEY) -> "Code":
        """The pattern of a key; another key's has nothing to do with it.

        Raises:
            ValueError: the key is empty.
        """
        if not key:
            raise ValueError("the watermark's key is empty")
        count = CELLS * PAIRS
        drawn = hashlib.shake_256(len(_LABEL).to_bytes(1) + _LABEL + key).digest(count // 8)
        bits = np.unpackbits(np.frombuffer(drawn, np.uint8)).astype(np.float64)
        return cls((2 * bits - 1).reshape(CELLS, PAIRS))

    @property
    def halves(self) -> Floats:
        """+1 or -1 for each half of a cell and band, shape (2 CELLS, 2 PAIRS)."""
        in_time = np.repeat(self.signs, 2, axis=0) * np.tile([1.0, -1.0], CELLS)[:, None]
        return np.stack([in_time, -in_time], axis=2).reshape(2 * CELLS, 2 * PAIRS)


def band_of(hertz: Floats) -> npt.NDArray[np.intp]:
    """Which band each frequency lies in, -1 for none; same shape."""
    index = np.floor((hertz - LOW_HZ) / BAND_HZ + 1e-9).astype(np.intp)
    return np.where((index >= 0) & (index < 2 * PAIRS), index, -1)
