"""What became of a call that we placed, told apart by the reason with which its leg ended."""

from enum import Enum

# Final statuses of RFC 3261 section 21 that say more than "refused". 408 and 480 are what a gateway makes of "no user
# responding" and "no answer from the user" (RFC 3398 section 8.2.6.1).
_BUSY = (486, 600)
_DECLINED = (603,)
_NO_ANSWER = (408, 480)
_REFUSED = "refused: "


class DialOutcome(Enum):
    """The values are stored and shown."""

    NONE = ""  # not placed by us, or still ringing
    ANSWERED = "answered"
    ANSWERING_MACHINE = "answering machine"
    BUSY = "busy"
    NO_ANSWER = "no answer"
    DECLINED = "declined"
    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    CANCELLED = "cancelled"


class NotAnsweredError(Exception):
    """A placed call that did not come about.

    Attributes:
        reason: static text for the call's record.
        sip_status: final response of the far end; 0 when there was none.
    """

    def __init__(self, outcome: DialOutcome, reason: str, sip_status: int = 0) -> None:
        super().__init__(reason)
        self.outcome = outcome
        self.reason = reason
        self.sip_status = sip_status


def not_answered(reason: str) -> NotAnsweredError:
    """From the reason with which a leg ended that was never answered (see `Leg.ended`)."""
    status = {"busy": 486, "declined": 603}.get(reason, 0)
    if reason.startswith(_REFUSED) and reason.removeprefix(_REFUSED).isdecimal():
        status = int(reason.removeprefix(_REFUSED))
    if not status:
        outcome = DialOutcome.NO_ANSWER if reason == "not answered" else DialOutcome.UNREACHABLE
    elif status in _BUSY:
        outcome = DialOutcome.BUSY
    elif status in _DECLINED:
        outcome = DialOutcome.DECLINED
    elif status in _NO_ANSWER:
        outcome = DialOutcome.NO_ANSWER
    else:
        outcome = DialOutcome.REFUSED
    return NotAnsweredError(outcome, reason, status)
