"""The course of one answer: which ids may come next, and when it is over. Pure: no model, no clock, no randomness."""

from collections.abc import Collection, Sequence
from enum import Enum

from services.lm.engine import GenerationSettings, Kind, Reason
from services.lm.prompt import ChatTemplate

# A spoken text may take this many speech tokens (12.5 a second), so that a broken model cannot babble for ever:
# two seconds, and per character about three times slow speech. Digits, capitals, symbols and characters of other
# scripts are whole words or syllables when spoken.
_SAY_BASE, _SAY_PER_LETTER, _SAY_PER_OTHER = 25, 3, 10


class Allowed(Enum):
    """The sets of ids that a step may choose from."""

    ANSWER = "text, speech, end"
    SPEECH = "speech"
    SPEECH_OR_END = "speech, end"


def say_limit(text: str) -> int:
    """Most speech tokens that saying `text` may take."""
    letters = sum(char.islower() or char.isspace() for char in text if char.isascii())
    return _SAY_BASE + _SAY_PER_LETTER * letters + _SAY_PER_OTHER * (len(text) - letters)


class Answer:
    """One answer under way.

    Freely generated, any text, speech or end id may come at any place: the model keeps the interleaving by itself.
    With `say`, blocks of the given text alternate with blocks of speech; when the text is used up, speech follows
    until the model ends it, or until `say_limit`.

    Args:
        resumed: ids that the answer has already, after its head.
    """

    def __init__(
        self,
        template: ChatTemplate,
        settings: GenerationSettings,
        end_tokens: Collection[int],
        resumed: Sequence[int] = (),
    ) -> None:
        self.settings = settings
        self._template = template
        self._end = end_tokens
        self._new = 0
        self._say = template.text.encode(settings.say)
        self._speech_limit = say_limit(settings.say)
        self._texts = self._speeches = 0
        for token in resumed:
            self._count(token)

    def forced(self) -> list[int]:
        """Ids that come next whatever the model says; empty where it is asked."""
        block = self._template.text_block
        rest = self._say[self._texts :]
        if not rest:
            return []
        spoken_before = self._texts // block * self._template.speech_block
        if self._speeches < spoken_before:
            return []
        return rest[: block - self._texts % block][: self.settings.max_new_tokens - self._new]

    def allowed(self) -> Allowed:
        """What the model may choose from next."""
        if not self.settings.say:
            return Allowed.ANSWER
        return Allowed.SPEECH if self._texts < len(self._say) else Allowed.SPEECH_OR_END

    def steps(self) -> int:
        """How many ids the model is asked for until text is forced or the answer is full, unless it ends it before."""
        left = self.settings.max_new_tokens - self._new
        if not self.settings.say:
            return left
        if self._texts < len(self._say):
            due = self._texts // self._template.text_block * self._template.speech_block
        else:
            due = self._speech_limit
        return max(1, min(left, due - self._speeches))

    def kind(self, token: int) -> Kind:
        """What an id of the answer is."""
        return Kind.SPEECH if self._template.vocabulary.is_speech(token) else Kind.TEXT

    def ends_with(self, token: int) -> bool:
        """Whether a chosen id ends the answer; such an id is not part of it."""
        return token in self._end

    def take(self, tokens: Sequence[int]) -> Reason | None:
        """Counts ids that were added. Returns the reason when the answer is over with them."""
        self._new += len(tokens)
        for token in tokens:
            self._count(token)
        if self._new >= self.settings.max_new_tokens:
            return Reason.MAX_TOKENS
        if self.settings.say and self._speeches >= self._speech_limit and self._texts >= len(self._say):
            return Reason.MAX_TOKENS
        return None

    def _count(self, token: int) -> None:
        if self.kind(token) is Kind.SPEECH:
            self._speeches += 1
        else:
            self._texts += 1
