import pytest
from pydantic import ValidationError

from services.agent.conversation import Entry, Role
from services.agent.disclosure import DisclosurePolicy
from services.agent.personas import Persona, problems

TEXT = "This is a computer speaking."


def said(text: str, interrupted: bool = False, role: Role = Role.ASSISTANT) -> Entry:
    return Entry(role, (1, 2), 2, text, interrupted)


@pytest.mark.parametrize(
    ("past", "due"),
    [
        ((), True),
        ((said(TEXT),), False),
        ((said(f" {TEXT} "), said("Hello.")), False),
        ((said(TEXT, interrupted=True),), True),
        ((said("Hello."),), True),
        ((said(TEXT, role=Role.USER),), True),
    ],
)
def test_is_due_until_it_was_heard_to_its_end(past: tuple[Entry, ...], due: bool) -> None:
    assert DisclosurePolicy(text=TEXT).due(past) is due
    assert DisclosurePolicy(text=TEXT, when="always").due(past)


@pytest.mark.parametrize(
    ("policy", "complaint"),
    [
        ({}, "disclosure.text: Field required"),
        ({"text": "  "}, "disclosure.text: String should have at least 1 character"),
        ({"text": TEXT, "when": "never"}, "disclosure.when: Input should be 'first' or 'always'"),
        ({"text": TEXT, "bargein": False}, "disclosure.bargein: Extra inputs are not permitted"),
    ],
)
def test_what_is_wrong_with_it_is_named(policy: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValidationError) as error:
        Persona.model_validate({"name": "p", "prompt": "Be brief.", "disclosure": policy})
    assert problems(error.value) == complaint
