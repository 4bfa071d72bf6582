"""Who may choose who answers a page."""

import pytest

from services.agent.api.middleware import casts
from services.agent.casting import Casting
from services.agent.persona_store.book import FixedBook, StoredPersona
from services.agent.persona_store.drafts import GONE, Drafts
from services.agent.personas import Persona
from services.common.errors import InvalidInputError, NotAllowedError

ANN, BOB = (Persona(name=name, prompt="Be brief.") for name in ("ann", "bob"))


class OneDraft(Drafts):
    """Bob's, for one call."""

    def __init__(self) -> None:
        self._left = {"token": BOB}

    async def take(self, token: str) -> Persona:
        if token not in self._left:
            raise InvalidInputError(GONE)
        return self._left.pop(token)


def casting() -> Casting:
    return Casting(FixedBook({"ann": StoredPersona(ANN, 3)}, "ann"), OneDraft())


async def test_a_page_without_wishes_gets_whoever_answers_pages() -> None:
    assert await casting().persona(None, None, may_choose=False) is None
    assert await casting().persona("", "", may_choose=True) is None


async def test_a_name_takes_a_key_and_a_draft_takes_its_token() -> None:
    assert await casting().persona("ann", None, may_choose=True) == StoredPersona(ANN, 3)
    with pytest.raises(NotAllowedError, match="operator"):
        await casting().persona("ann", None, may_choose=False)
    with pytest.raises(InvalidInputError, match="there are: ann"):
        await casting().persona("bob", None, may_choose=True)
    drafts = casting()
    assert await drafts.persona(None, "token", may_choose=False) == StoredPersona(BOB, 0)
    with pytest.raises(InvalidInputError, match="for one call"):
        await drafts.persona(None, "token", may_choose=False)
    with pytest.raises(InvalidInputError, match="either"):
        await drafts.persona("ann", "token", may_choose=True)


def test_a_key_that_the_gate_found_may_choose() -> None:
    assert casts({"api_key": object()})
    assert not casts({})
