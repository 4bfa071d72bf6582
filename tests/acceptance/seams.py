"""Compares what a caller heard with an undisturbed rendering of the same speech. Pure."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Wave = npt.NDArray[np.float32]

PIECE_S = 0.4  # about two syllables
AHEAD_S = 8.0  # a piece is looked for so far behind where it should be
BACK_S = 0.1
ALIKE = 0.5  # normalised correlation of a piece and what came of it through a codec; other speech stays below 0.4
LOUD = 0.01  # of full scale, root mean square
FRAME_S = 0.02


@dataclass(frozen=True)
class Seam:
    """One answer as it was heard.

    Attributes:
        pieces: of the rendering, those with sound.
        missing: pieces that were not heard where they belong.
        pause_s: longest silence that the rendering does not have.
        surplus_s: sound heard beyond that of the rendering: what was repeated, or belongs to something else.
    """

    pieces: int
    missing: int
    pause_s: float
    surplus_s: float


def compare(rendered: Wave, heard: Wave, rate: int) -> Seam:
    """How `heard`, which begins before the answer does, differs from `rendered`."""
    size = round(PIECE_S * rate)
    shift: int | None = None  # by which heard is behind rendered
    after = 0  # the last piece found
    pieces = missing = 0
    pause = 0.0
    for start in range(0, len(rendered) - size + 1, size):
        piece = rendered[start : start + size]
        if _rms(piece) < LOUD:
            continue
        pieces += 1
        begin = max(0, after - round(BACK_S * rate))
        end = len(heard) if shift is None else start + shift + size + round(AHEAD_S * rate)
        found = _find(piece, heard[begin:end])
        if found is None:
            missing += 1
            continue
        now = begin + found - start
        if shift is not None:
            pause = max(pause, (now - shift) / rate)
        shift, after = now, begin + found + size
    surplus = (_loud_frames(heard, rate) - _loud_frames(rendered, rate)) * FRAME_S
    return Seam(pieces, missing, pause, max(0.0, surplus))


def _find(piece: Wave, within: Wave) -> int | None:
    """Where a piece is most alike; None where nothing is."""
    if len(within) < len(piece):
        return None
    size = 1 << (len(within) + len(piece)).bit_length()
    spectrum = np.fft.rfft(within, size) * np.conj(np.fft.rfft(piece, size))
    products = np.fft.irfft(spectrum, size)[: len(within) - len(piece) + 1]
    squares = np.concatenate([[0.0], np.cumsum(within.astype(np.float64) ** 2)])
    energy = np.sqrt(np.maximum(squares[len(piece) :] - squares[: -len(piece)], 1e-9)) * np.linalg.norm(piece)
    likeness = products / np.maximum(energy, 1e-6)
    best = int(np.argmax(likeness))
    return best if likeness[best] >= ALIKE else None


def _loud_frames(wave: Wave, rate: int) -> int:
    size = round(FRAME_S * rate)
    frames = wave[: len(wave) // size * size].reshape(-1, size)
    return int((np.sqrt((frames**2).mean(axis=1)) >= LOUD).sum())


def _rms(wave: Wave) -> float:
    return float(np.sqrt((wave.astype(np.float64) ** 2).mean()))
