"""A call's conversation as exact token ids: what the LM session holds, and what of it the caller heard. Pure.

The ids come from the LM's own events, so a session opened with `ids` anywhere continues in the same way. Each change is
also an `Entry`, and the entries alone (they are what Redis stores) rebuild the ids.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum

_CHINESE = "\u3400-\u9fff"
_WORD = re.compile(f"[{_CHINESE}]|[^\\s{_CHINESE}]+")  # Chinese has no spaces: each character counts
_LENGTHS_A_TOKEN = 1.2  # characters of English in a speech token of 80 ms; a Chinese one counts as three


class Role(Enum):
    """What an entry adds, or does."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TRANSCRIPT = "transcript"  # what the caller said in a turn, as a recogniser heard it; changes no ids
    REWIND = "rewind"  # forget all ids from `length` on
    RESET = "reset"  # the ids are replaced: the context was full, and older turns were left out


@dataclass(frozen=True)
class Entry:
    """One appended record.

    Attributes:
        role: what it is.
        ids: exact vocabulary ids that it added; for RESET all ids.
        length: ids in the session afterwards.
        text: of the bot; when interrupted, up to the word last heard, as near as the answer's pace tells. Of a
            TRANSCRIPT the caller's.
        interrupted: the caller barged in; `ids` end with the last token heard.
        turn: number of the caller's turn it belongs to; 0 before the first.
    """

    role: Role
    ids: tuple[int, ...]
    length: int
    text: str = ""
    interrupted: bool = False
    turn: int = 0


@dataclass
class Answer:
    """An answer under way: which ids carry which speech token.

    Attributes:
        start: ids in the session before it.
        ids: generated so far, control tokens included.
        speech_ends: number of ids in this answer up to and including the n-th speech token.
        pieces: text with the number of speech tokens that came before it.
        complete: nothing more of it will be generated.
    """

    start: int
    ids: list[int] = field(default_factory=list)
    speech_ends: list[int] = field(default_factory=list)
    pieces: list[tuple[int, str]] = field(default_factory=list)
    complete: bool = False

    @property
    def text(self) -> str:
        """All its text."""
        return "".join(text for _, text in self.pieces)

    def add(self, ids: Iterable[int], is_speech: bool, text: str = "") -> None:
        """Takes one Generated event."""
        if text:
            self.pieces.append((len(self.speech_ends), text))
        for token in ids:
            self.ids.append(token)
            if is_speech:
                self.speech_ends.append(len(self.ids))

    def cut(self, tokens_heard: int) -> "Answer":
        """The answer up to the last speech token heard; empty when none was."""
        heard = min(tokens_heard, len(self.speech_ends))
        if heard == 0:
            return Answer(self.start)
        kept = self.speech_ends[heard - 1]
        pieces = [(before, text) for before, text in self.pieces if before < heard]
        return Answer(self.start, self.ids[:kept], self.speech_ends[:heard], pieces)

    def text_heard(self, tokens_heard: int) -> str:
        """Its text up to the word in which the last speech token heard lies.

        Text is generated ahead of its speech, so where it stands among the tokens does not tell. What share of the
        speech was heard does; while there is more to come of the answer, a usual pace does.
        """
        text, speech = self.text, len(self.speech_ends)
        length = _length(text)
        heard = tokens_heard * (length / speech if self.complete and speech else _LENGTHS_A_TOKEN)
        end = 0
        for word in _WORD.finditer(text):
            if _length(text[: word.start()]) >= heard:
                break
            end = word.end()
        return text[:end]


def _length(text: str) -> int:
    """How long a text takes to say, in characters of English."""
    return len(text) + 2 * len(re.findall(f"[{_CHINESE}]", text))


class Conversation:
    """The ids of one call and the boundaries of its turns."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        self._turn_starts: list[int] = []  # length before each user turn
        self._system_end = 0

    def system(self, ids: Iterable[int]) -> Entry:
        """The system prompt was appended."""
        added = tuple(ids)
        self.ids += added
        self._system_end = len(self.ids)
        return Entry(Role.SYSTEM, added, len(self.ids))

    def user(self, ids: Iterable[int], turn: int) -> Entry:
        """A whole user turn was appended."""
        added = tuple(ids)
        self._turn_starts.append(len(self.ids))
        self.ids += added
        return Entry(Role.USER, added, len(self.ids), turn=turn)

    def assistant(self, answer: Answer, interrupted: bool, turn: int, text: str | None = None) -> Entry:
        """An answer is over; `answer` holds what stays of it, and `text` what was heard of its text, if not all.

        Raises:
            ValueError: it does not follow the ids at hand.
        """
        if answer.start != len(self.ids):
            raise ValueError(f"the answer starts at {answer.start}, the conversation ends at {len(self.ids)}")
        self.ids += answer.ids
        said = answer.text if text is None else text
        return Entry(Role.ASSISTANT, tuple(answer.ids), len(self.ids), said, interrupted, turn)

    def rewind(self, length: int, turn: int) -> Entry:
        """Ids from `length` on are forgotten.

        Raises:
            ValueError: there are fewer ids, or it would cut into the system prompt.
        """
        if not self._system_end <= length <= len(self.ids):
            raise ValueError(f"cannot rewind to {length}: between {self._system_end} and {len(self.ids)} is allowed")
        del self.ids[length:]
        self._turn_starts = [start for start in self._turn_starts if start < length]
        return Entry(Role.REWIND, (), length, turn=turn)

    @classmethod
    def rebuilt(cls, entries: Iterable[Entry]) -> "Conversation":
        """The conversation as these entries, of `replay`'s kind, left it."""
        conversation = cls()
        for entry in entries:
            conversation._take(entry)
        return conversation

    def _take(self, entry: Entry) -> None:
        if entry.role is Role.SYSTEM:
            self.system(entry.ids)
        elif entry.role is Role.USER:
            self.user(entry.ids, entry.turn)
        elif entry.role in (Role.ASSISTANT, Role.TRANSCRIPT):
            self.ids += entry.ids
        elif entry.role is Role.REWIND:
            self.rewind(entry.length, entry.turn)
        else:
            dropped, ids = len(self.ids) - len(entry.ids), list(entry.ids)
            if dropped >= 0 and ids[self._system_end :] == self.ids[self._system_end + dropped :]:
                kept = (start for start in self._turn_starts if start >= self._system_end + dropped)
                self._turn_starts = [start - dropped for start in kept]
            else:
                self._turn_starts = []  # it stands for entries that are not there
            self.ids = ids

    def trim(self, budget: int, turn: int) -> Entry | None:
        """Leaves out the oldest turns so that at most `budget` ids stay; None when they fit already.

        The system prompt stays, and so does what a newer turn said. Whole turns are left out, never parts.
        """
        if len(self.ids) <= budget:
            return None
        cut = len(self.ids)
        for start in self._turn_starts:
            if self._system_end + len(self.ids) - start <= budget:
                cut = start
                break
        dropped = cut - self._system_end
        self.ids = self.ids[: self._system_end] + self.ids[cut:]
        self._turn_starts = [start - dropped for start in self._turn_starts if start >= cut]
        return Entry(Role.RESET, tuple(self.ids), len(self.ids), turn=turn)


def replay(entries: Iterable[Entry]) -> list[int]:
    """The ids that a session must be opened with to continue after these entries."""
    ids: list[int] = []
    for entry in entries:
        if entry.role is Role.REWIND:
            del ids[entry.length :]
        elif entry.role is Role.RESET:
            ids = list(entry.ids)
        else:
            ids += entry.ids
    return ids
