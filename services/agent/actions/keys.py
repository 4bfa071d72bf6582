"""Which keys a caller has pressed one after another: a pure state machine fed with keys and time."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

ENTRY = "...#"  # at the end of a sequence: digits as many as the caller likes, then #
LONGEST_ENTRY = 32  # digits


@dataclass(frozen=True)
class KeysMatch:
    """A sequence was pressed.

    Attributes:
        index: which of the sequences.
        keys: all keys of it.
    """

    index: int
    keys: str


class _Fit(Enum):
    NO = auto()
    BEGUN = auto()  # more keys may make it whole
    WHOLE = auto()


class KeySequences:
    """One caller's keys.

    A sequence is reported as soon as no longer one can come of it, else once the caller has paused. Keys that lead
    nowhere are forgotten, the oldest first, so that a slip does not spoil what is pressed after it.

    Args:
        sequences: fixed ones (`12`, `9#`), or such that end with `ENTRY` (`...#`, `1...#`). Of several that fit, a
            fixed one goes first.
        pause_s: longest time between two keys of a sequence.
    """

    def __init__(self, sequences: Sequence[str], pause_s: float) -> None:
        self._sequences = sequences
        self._pause_s = pause_s
        self._pressed = ""
        self._last = 0.0

    @property
    def deadline(self) -> float | None:
        """When to call `idle`, on the clock of `press`; None while no sequence is begun."""
        return self._last + self._pause_s if self._pressed else None

    def press(self, now: float, key: str) -> KeysMatch | None:
        """A key was pressed at `now` (seconds). A sequence that a pause has ended before it must be fetched first."""
        self._pressed += key
        self._last = now
        while self._pressed and all(fit is _Fit.NO for fit in self._fits()):
            self._pressed = self._pressed[1:]
        return None if _Fit.BEGUN in self._fits() else self._take()

    def idle(self, now: float) -> KeysMatch | None:
        """Time has passed."""
        deadline = self.deadline
        return self._take() if deadline is not None and now >= deadline else None

    def _take(self) -> KeysMatch | None:
        pressed, fits = self._pressed, self._fits()
        self._pressed = ""
        whole = [index for index, fit in enumerate(fits) if fit is _Fit.WHOLE]
        if not whole:
            return None
        return KeysMatch(min(whole, key=lambda index: self._sequences[index].endswith(ENTRY)), pressed)

    def _fits(self) -> list[_Fit]:
        return [_fit(sequence, self._pressed) for sequence in self._sequences]


def _fit(sequence: str, pressed: str) -> _Fit:
    if not sequence.endswith(ENTRY):
        if pressed == sequence:
            return _Fit.WHOLE
        return _Fit.BEGUN if sequence.startswith(pressed) else _Fit.NO
    prefix = sequence.removesuffix(ENTRY)
    if len(pressed) <= len(prefix):
        return _Fit.BEGUN if prefix.startswith(pressed) else _Fit.NO
    entry = pressed.removeprefix(prefix)
    if entry == pressed and prefix:
        return _Fit.NO
    if entry.isdecimal() and len(entry) <= LONGEST_ENTRY:
        return _Fit.BEGUN
    return _Fit.WHOLE if entry[:-1].isdecimal() and entry.endswith("#") else _Fit.NO
