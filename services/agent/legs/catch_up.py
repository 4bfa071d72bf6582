"""Takes time out of speech that has become longer than it was spoken: silence, or single pitch periods. Pure."""

import numpy as np
import numpy.typing as npt

Pcm = npt.NDArray[np.int16]

SHORTEST_S = 0.0025  # pitch periods that are looked for: 400 Hz
LONGEST_S = 0.01  # down to 100 Hz; two periods fit into a packet
QUIET_RMS = 60.0  # of 32768: below it is silence in any case
QUIET_SHARE = 0.08  # of the loudest lately: below it is silence beside speech
FORGET = 0.99  # per piece: how fast the loudest is forgotten, half in 1.4 s


class CatchUp:
    """Shortens one stream of 16-bit mono PCM, piece by piece of about 20 ms.

    Args:
        rate: of the PCM, hertz.
    """

    def __init__(self, rate: int) -> None:
        self._shortest = int(SHORTEST_S * rate)
        self._longest = int(LONGEST_S * rate)
        self._loudest = 0.0

    def shorten(self, pcm: Pcm, samples: int) -> Pcm:
        """The piece with at most `samples` fewer: without all of it in silence, without one pitch period in speech."""
        wide = pcm.astype(np.float64)
        rms = float(np.sqrt(np.dot(wide, wide) / len(pcm))) if len(pcm) else 0.0
        self._loudest = max(rms, self._loudest * FORGET)
        if samples <= 0:
            return pcm
        if rms <= max(QUIET_RMS, QUIET_SHARE * self._loudest):
            return pcm[min(samples, len(pcm)) :]
        period = self._period(wide, samples)
        if not period:
            return pcm
        fade = np.linspace(0.0, 1.0, period)
        joined = pcm[:period] * (1 - fade) + pcm[period : 2 * period] * fade
        return np.concatenate([np.rint(joined).astype(np.int16), pcm[2 * period :]])

    def _period(self, pcm: npt.NDArray[np.float64], most: int) -> int:
        """The lag at which the piece resembles itself best; 0 when there is no room for any."""
        best, period = 0.0, 0
        for lag in range(self._shortest, min(self._longest, most, len(pcm) // 2) + 1):
            here, there = pcm[:lag], pcm[lag : 2 * lag]
            energy = float(np.dot(here, here) * np.dot(there, there))
            likeness = float(np.dot(here, there)) / energy**0.5 if energy else 0.0
            if likeness > best:
                best, period = likeness, lag
        return period
