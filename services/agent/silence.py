"""What to do about a caller who says nothing: asks, asks again, says goodbye, hangs up. Pure.

Silence is counted on the caller's audio, so a call on hold or a busy machine does not lose the caller's patience, and
only while nobody has the floor: not while the bot speaks or thinks.
"""

from dataclasses import dataclass
from enum import Enum, auto

from services.agent.personas import SilencePolicy


class SilenceAction(Enum):
    """What is due."""

    SAY = auto()
    HANG_UP = auto()


@dataclass(frozen=True)
class SilenceStep:
    """One step; `text` is empty for HANG_UP."""

    action: SilenceAction
    text: str = ""


class SilenceWatch:
    """Follows one call.

    Args:
        policy: of the persona; None: silence is never broken.
    """

    def __init__(self, policy: SilencePolicy | None) -> None:
        self._policy = policy
        self._silent_s = 0.0
        self._asked = 0
        self._said_goodbye = False

    def caller_made_sound(self) -> None:
        """The caller is there: all begins anew."""
        self._silent_s = 0.0
        self._asked = 0
        self._said_goodbye = False

    def quiet(self, seconds: float, floor_is_free: bool) -> SilenceStep | None:
        """So many more seconds of the caller's audio held no speech.

        Args:
            floor_is_free: neither the caller has the floor, nor does the bot speak or prepare to.
        """
        if self._policy is None:
            return None
        if not floor_is_free:
            self._silent_s = 0.0
            return None
        if self._said_goodbye:
            return SilenceStep(SilenceAction.HANG_UP)
        self._silent_s += seconds
        if self._silent_s < self._policy.after_s:
            return None
        self._silent_s = 0.0
        if self._asked < self._policy.times:
            self._asked += 1
            return SilenceStep(SilenceAction.SAY, self._policy.say)
        if not self._policy.goodbye:
            return SilenceStep(SilenceAction.HANG_UP)
        self._said_goodbye = True
        return SilenceStep(SilenceAction.SAY, self._policy.goodbye)
