"""Puts the watermark into a stream of 16-bit PCM, piece by piece. Pure; what comes out does not depend on the pieces.

Each frame's spectrum is raised or lowered by `STRENGTH_DB` patch by patch, so the mark is as loud as the speech that
masks it, and silence stays silence. Samples come out where they went in: nothing is delayed, only the latest 6 to 12 ms
are held back until what follows them is there.
"""

import functools

import numpy as np
import numpy.typing as npt

from services.agent.watermark.code import HALF_S, Code, band_of

Pcm = npt.NDArray[np.int16]

STRENGTH_DB = 0.9
_HOP_S = 0.0058
_LOUDEST = 32767.0


def hop_samples(rate: int) -> int:
    """Half a frame, a number with small factors."""
    return 8 * round(rate * _HOP_S / 8)


class Marker:
    """One stream: an answer.

    Args:
        rate: of the PCM, hertz; at least 8000.

    Raises:
        ValueError: the rate is lower.
    """

    def __init__(self, code: Code, rate: int, strength_db: float = STRENGTH_DB) -> None:
        if rate < 8000:
            raise ValueError(f"{rate} Hz do not carry the watermark: at least 8000 are needed")
        self._rate = rate
        self._hop = hop_samples(rate)
        # frames overlap by half, windowed before and after, so their squares add up to one (Princen-Bradley)
        self._window = np.sin(np.pi * (np.arange(2 * self._hop) + 0.5) / (2 * self._hop)).astype(np.float32)
        hertz = np.arange(self._hop + 1) * rate / (2 * self._hop)
        (self._bins,) = np.nonzero(band_of(hertz) >= 0)
        self._changes = _changes(code.halves.tobytes(), code.halves.shape, strength_db)[:, band_of(hertz[self._bins])]
        self._held: npt.NDArray[np.int16] = np.zeros(self._hop, np.int16)  # the last frame's second half, then the rest
        self._carried = np.zeros(self._hop, np.float32)  # what that frame adds to its second half
        self._frames = 0

    def mark(self, samples: Pcm, last: bool = False) -> Pcm:
        """The next piece, less what is held back; with `last` all the rest, as many samples in all as went in."""
        stream = np.concatenate([self._held, samples])
        waiting = len(stream) - self._hop * (self._frames == 0)
        if last:
            stream = np.concatenate([stream, np.zeros(2 * self._hop, np.int16)])
        count = len(stream) // self._hop - 1
        if count <= 0:
            self._held = stream
            return np.zeros(0, np.int16)
        added = self._added(stream, count)
        end = count * self._hop
        marked = stream[:end] + added
        out = np.rint(marked).clip(-_LOUDEST - 1, _LOUDEST).astype(np.int16)
        if self._frames == 0:
            out = out[self._hop :]
        self._held = stream[end:]
        self._frames += count
        return out[:waiting] if last else out

    def _added(self, stream: Pcm, count: int) -> npt.NDArray[np.float32]:
        """What is added to the samples up to the last frame's second half, which is kept for the next piece."""
        frames = np.lib.stride_tricks.sliding_window_view(stream, 2 * self._hop)[:: self._hop][:count]
        spectra = np.fft.rfft(frames * self._window)
        centres = np.arange(self._frames, self._frames + count) * self._hop
        half = centres * round(1 / HALF_S) // self._rate % len(self._changes)
        change = np.zeros_like(spectra)
        change[:, self._bins] = spectra[:, self._bins] * self._changes[half]
        parts = np.asarray(np.fft.irfft(change, 2 * self._hop) * self._window, np.float32)
        added = parts[:, : self._hop]
        added[0] += self._carried
        added[1:] += parts[:-1, self._hop :]
        self._carried = parts[-1, self._hop :].copy()
        return added.ravel()


@functools.cache
def _changes(halves: bytes, shape: tuple[int, int], strength_db: float) -> npt.NDArray[np.float32]:
    """What share of each band is added in each half of a cell."""
    return np.asarray(10 ** (strength_db / 20 * np.frombuffer(halves).reshape(shape)) - 1, np.float32)
