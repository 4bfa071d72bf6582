"""Which blocks, of those that are due, take the next step together. Pure: counts and times in, a choice out."""

from collections.abc import Sequence
from dataclasses import dataclass

FRAME_BUDGET = 8192  # about twelve steady blocks; on a small CPU more would only make everyone wait for everyone
_STRETCH = 2  # lengths within a group differ at most so much: less than half of it is padding


@dataclass(frozen=True)
class Due:
    """A block that wants to be computed.

    Attributes:
        frames: mel frames that a step of it computes; may be 0.
        first: nothing of its utterance was heard yet: someone waits in silence.
        runs_out: when all audio given out before it will have been played, seconds on any clock.
        number: in which order blocks became due.
    """

    frames: int
    first: bool
    runs_out: float
    number: int

    @property
    def urgency(self) -> tuple[bool, float, int]:
        """Sorts the most urgent block first."""
        return (not self.first, 0.0 if self.first else self.runs_out, self.number)


def choose(due: Sequence[Due], frame_budget: int = FRAME_BUDGET) -> list[int]:
    """Indices into `due` of the blocks to take together: the most urgent one, and those that go well with it.

    Others join in order of urgency while the padded group stays within the budget and all are of about the length of
    the most urgent one. So a first block waits for no long ones, at most for the step that is being computed; and no
    block waits for ever, for the one whose audio runs out first is always taken.
    """
    if not due:
        return []
    head, *others = sorted(range(len(due)), key=lambda index: due[index].urgency)
    chosen, shortest, longest = [head], due[head].frames, due[head].frames
    for index in others:
        frames = due[index].frames
        low, high = min(shortest, frames), max(longest, frames)
        if high <= _STRETCH * low and high * (len(chosen) + 1) <= frame_budget:
            chosen.append(index)
            shortest, longest = low, high
    return chosen
