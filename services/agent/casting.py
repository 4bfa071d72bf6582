"""Who answers a page that asks for somebody: a persona by its name, or a draft of one."""

from services.agent.persona_store.book import PersonaBook, StoredPersona
from services.agent.persona_store.drafts import Drafts
from services.common.errors import InvalidInputError, NotAllowedError

DRAFT_VERSION = 0


class Casting:
    """Finds personas for pages."""

    def __init__(self, book: PersonaBook, drafts: Drafts) -> None:
        self._book = book
        self._drafts = drafts

    async def persona(self, name: str | None, draft: str | None, may_choose: bool) -> StoredPersona | None:
        """The persona that is asked for; None: whichever answers pages.

        Args:
            draft: token of a draft, which whoever has it may use.
            may_choose: personas by name are open to whoever asks.

        Raises:
            NotAllowedError: they are not.
            InvalidInputError: there is none, or both are asked for.
            UnavailableError: Redis is away, and has the draft.
        """
        if draft and name:
            raise InvalidInputError("a call has either a persona or a draft")
        if draft:
            return StoredPersona(await self._drafts.take(draft), DRAFT_VERSION)
        if not name:
            return None
        if not may_choose:
            raise NotAllowedError("to choose a persona takes the page key, or an API key with the role operator")
        return await self._book.named(name)
