"""What became of a call, as its caller knows it. Times are monotonic seconds of this machine."""

from dataclasses import dataclass, field
from enum import StrEnum

from loadtest.calls.line import Signalling
from loadtest.scenario.plan import PlannedCall


class Outcome(StrEnum):
    """Whose doing the end of a call is."""

    COMPLETED = "completed"  # asked all, heard all
    HUNG_UP = "hung up"  # by the caller at a random moment, as planned
    BOT_ENDED = "bot hung up"  # after a question that asks for it
    REFUSED = "refused"  # the system said that it does not take the call
    FAILED = "failed"  # the system did what it must not
    NETWORK = "network"  # not reached, or lost on the way
    CALLER = "caller"  # the load test's own mistake


OURS = frozenset({Outcome.FAILED})
PLANNED = frozenset({Outcome.COMPLETED, Outcome.HUNG_UP, Outcome.BOT_ENDED})


@dataclass
class Asked:
    """One question.

    Attributes:
        barges_in: it was spoken into an answer.
        said_from, said_until: when its first and last packets went out.
        first_at: when the answer's first sound came; None: it did not.
        quiet_at: when the answer was taken for ended; None: it was interrupted, or the call ended.
    """

    question: str
    barges_in: bool = False
    said_from: float = 0.0
    said_until: float = 0.0
    first_at: float | None = None
    quiet_at: float | None = None


@dataclass
class Call:
    """One call.

    Attributes:
        began, ended: the caller's decision to call, and the end of all that belongs to the call.
        answered_at, greeted_at: None: it was not.
        detail: of the outcome, in a few fixed words.
        late_s: by how much the caller missed its own times, each packet's.
    """

    plan: PlannedCall
    began: float
    outcome: Outcome = Outcome.COMPLETED
    detail: str = ""
    ended: float = 0.0
    answered_at: float | None = None
    greeted_at: float | None = None
    asked: list[Asked] = field(default_factory=list)
    signalling: Signalling = field(default_factory=Signalling)
    late_s: list[float] = field(default_factory=list)
    held: int = 0
    pressed: int = 0
