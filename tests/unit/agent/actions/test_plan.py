import pytest

from services.agent.actions.config import Action, HangUp, Transfer, Webhook, When
from services.agent.actions.plan import AnswerPlan, StepKind

BYE = HangUp(name="bye", kind="hang_up", phrases=("goodbye",))
PERSON = Transfer(name="person", kind="transfer", phrases=("connect you",), target="100")
NOTE = Webhook(name="note", kind="webhook", phrases=("noted", "goodbye"), url="http://a.example")
LATE = Webhook(name="late", kind="webhook", phrases=("noted",), url="http://a.example", when=When.HEARD)
KEYED = HangUp(name="keyed", kind="hang_up", keys="0")


class Told:
    """A plan and what came of it, as `act bye`."""

    def __init__(self, *actions: Action) -> None:
        self.plan = AnswerPlan(actions)

    def __call__(self, *happenings: str) -> list[str]:
        """`+text`, `.` for the end of text, `!` for the first sound, `heard`, `stopped`, `answer`, `announcement`."""
        told = []
        for what in happenings:
            match what:
                case "answer" | "announcement":
                    self.plan.begin(what == "announcement")
                    steps = []
                case ".":
                    steps = self.plan.text_complete()
                case "!":
                    steps = self.plan.audible()
                case "heard" | "stopped":
                    steps = self.plan.over(what == "heard")
                case _:
                    steps = self.plan.text(what)
            verbs = {StepKind.ACT: "act", StepKind.CANCEL: "cancel"}
            told += [f"{verbs[step.kind]} {step.action.name}" for step in steps]
        return told


def test_a_hang_up_waits_until_all_of_the_answer_is_heard() -> None:
    told = Told(BYE)
    assert told("answer", "Thank you. Good", "bye.", ".", "!") == []
    assert told("heard") == ["act bye"]
    assert told("answer", "Anything else?", ".", "!", "heard") == []


def test_an_interruption_before_the_end_cancels_what_waits() -> None:
    told = Told(BYE)
    assert told("answer", "Goodbye.", ".", "!", "stopped") == ["cancel bye"]
    assert told("answer", "Sorry?", ".", "!", "heard") == [], "the pending one is forgotten"


def test_an_answer_that_nobody_heard_sets_nothing_off() -> None:
    told = Told(NOTE, BYE)
    assert told("answer", "Noted. Goodbye.", ".", "stopped") == []
    assert told("answer", "Noted. Goodb") == [], "an attempt that failed, and the next one"
    assert told("answer", "Hello.", ".", "!", "heard") == []


def test_a_webhook_goes_off_at_the_first_sound_or_when_its_sentence_comes_later() -> None:
    told = Told(NOTE)
    assert told("answer", "It is noted. ") == []
    assert told("!") == ["act note"]
    assert told(".", "heard") == []
    assert told("answer", "Well, ", "!", "it is noted. ") == ["act note"]
    assert told("More of it is noted.", ".", "stopped") == [], "once in an answer, and it is no longer to be cancelled"


def test_a_webhook_may_wait_too() -> None:
    told = Told(LATE)
    assert told("answer", "It is noted.", "!", ".") == []
    assert told("heard") == ["act late"]


def test_of_two_that_end_the_call_the_first_one_counts() -> None:
    told = Told(BYE, PERSON, NOTE)
    assert told("answer", "I connect you. Goodbye.", ".", "!") == ["act note"]
    assert told("heard") == ["act person"]


def test_a_text_without_a_sound_counts_when_it_was_the_whole_answer() -> None:
    assert Told(BYE)("answer", "Goodbye.", ".", "heard") == ["act bye"]


@pytest.mark.parametrize("actions", [(), (KEYED,)])
def test_without_triggers_in_the_text_nothing_is_looked_for(actions: tuple[Action, ...]) -> None:
    assert Told(*actions)("answer", "Goodbye.", ".", "!", "heard") == []


def test_announcements_set_nothing_off() -> None:
    assert Told(BYE)("announcement", "Goodbye.", ".", "!", "heard") == []
