"""Is this a beep? One steady sine, as answering machines give it."""

import numpy as np

from services.agent.legs.base import INPUT_RATE
from services.agent.voice_activity import WINDOW_SAMPLES

LOWEST_HZ, HIGHEST_HZ = 400.0, 2200.0
PURITY = 0.9  # share of a window's power in its strongest frequency; vowels have harmonics and stay below
QUIETEST_RMS = 200.0  # of 32768: -44 dBFS
STEADY_HZ = 40.0  # from window to window; speech glides
_NEAR = 2  # bins on each side of the peak: the main lobe of a Hann window
_HANN = np.hanning(WINDOW_SAMPLES)
_BIN_HZ = INPUT_RATE / WINDOW_SAMPLES


class ToneDetector:
    """Follows one line window by window."""

    def __init__(self) -> None:
        self._before_hz = 0.0

    def is_tone(self, window: bytes) -> bool:
        """Whether `WINDOW_SAMPLES` of 16-bit PCM at `INPUT_RATE` hold the same single tone as those before them."""
        samples = np.frombuffer(window, np.int16).astype(np.float64)
        before_hz, self._before_hz = self._before_hz, 0.0
        if np.sqrt((samples**2).mean()) < QUIETEST_RMS:
            return False
        power = np.abs(np.fft.rfft(samples * _HANN)) ** 2
        peak = int(power.argmax())
        near = slice(max(0, peak - _NEAR), peak + _NEAR + 1)
        hertz = float((power[near] * np.arange(len(power))[near]).sum() / power[near].sum()) * _BIN_HZ
        if power[near].sum() < PURITY * power.sum() or not LOWEST_HZ <= hertz <= HIGHEST_HZ:
            return False
        self._before_hz = hertz
        return abs(hertz - before_hz) <= STEADY_HZ
