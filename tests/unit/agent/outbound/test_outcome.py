import pytest

from services.agent.outbound.outcome import DialOutcome, not_answered
from services.agent.outbound.placed import DialOptions, OnMachine


@pytest.mark.parametrize(
    ("reason", "outcome", "status"),
    [
        ("busy", DialOutcome.BUSY, 486),
        ("refused: 600", DialOutcome.BUSY, 600),
        ("declined", DialOutcome.DECLINED, 603),
        ("not answered", DialOutcome.NO_ANSWER, 0),
        ("refused: 480", DialOutcome.NO_ANSWER, 480),
        ("refused: 408", DialOutcome.NO_ANSWER, 408),
        ("refused: 404", DialOutcome.REFUSED, 404),
        ("refused: 503", DialOutcome.REFUSED, 503),
        ("failed", DialOutcome.UNREACHABLE, 0),
        ("no media", DialOutcome.UNREACHABLE, 0),
        ("refused: soon", DialOutcome.UNREACHABLE, 0),
    ],
)
def test_the_legs_reason_tells_the_outcome(reason: str, outcome: DialOutcome, status: int) -> None:
    error = not_answered(reason)
    assert (error.outcome, error.sip_status, error.reason) == (outcome, status, reason)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ring_timeout_s": 0.5}, "1 to 180 s"),
        ({"ring_timeout_s": 181}, "1 to 180 s"),
        ({"ring_timeout_s": float("nan")}, "1 to 180 s"),
        ({"greet_after_s": 0.1}, "0.2 to 10 s"),
        ({"greet_after_s": 11}, "0.2 to 10 s"),
        ({"on_machine": OnMachine.LEAVE_TEXT}, "1 to 500 characters"),
        ({"on_machine": OnMachine.LEAVE_TEXT, "text": "x" * 501}, "1 to 500 characters"),
        ({"text": "hello"}, "nothing else takes one"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DialOptions(**options)  # type: ignore[arg-type]
