"""What a persona says about being no human: Article 50(1) of the EU's AI Act (Regulation 2024/1689) asks for that."""

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from services.agent.conversation import Entry, Role


class DisclosurePolicy(BaseModel):
    """Said before anything else of a call. A call that goes on with an earlier one says it only if it was not heard."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    text: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=300)] = Field(
        description="in the persona's language"
    )
    when: Literal["first", "always"] = Field(
        "first", description="first: at a call's beginning; always: also when it goes on after it was cut"
    )
    barge_in: bool = Field(True, description="the caller may interrupt it; false: they are answered after it")

    def due(self, past: Iterable[Entry]) -> bool:
        """Whether it is to be said in a call that goes on with these entries; none of a new one."""
        if self.when == "always":
            return True
        said = _words(self.text)
        return not any(
            entry.role is Role.ASSISTANT and not entry.interrupted and _words(entry.text) == said for entry in past
        )


def _words(text: str) -> list[str]:
    return text.split()
