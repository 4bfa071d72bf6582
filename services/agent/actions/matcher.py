"""Finds phrases and patterns in a text that comes in pieces, sentence by sentence. Pure.

A sentence is looked at once it is complete: the model's text runs seconds ahead of its speech, so nothing is lost by
that, and whoever acts on a match has all of the sentence. Case, punctuation and typographic forms (Unicode NFKC) make
no difference. A Chinese or Japanese character is a word of its own; `<tag>` and `[tag]` are words, brackets included.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import re2

LONGEST_SENTENCE = 1000  # characters; a longer one is looked at in parts
PATTERN_MEMORY = 1 << 20  # bytes for a compiled pattern and its states

_EAST_ASIAN = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
_WORD = re.compile(rf"<[\w-]+>|\[[\w-]+\]|[{_EAST_ASIAN}]|[^\W{_EAST_ASIAN}]+(?:'[^\W{_EAST_ASIAN}]+)*")
# A full stop inside `3.5` ends nothing: only one with space after it does, or the last of the text so far when no digit
# stands before it. To wait for what follows would be to wait for all of the answer's speech.
_SENTENCE_END = re.compile(r"[.!?…]+[\"'”’)]*\s+|(?<![0-9.!?…])[.!?…]+[\"'”’)]*$|[。！？]+[”’」）]*|\n+")


class PatternError(ValueError):
    """Not a regular expression that RE2 takes."""


def words(text: str) -> tuple[str, ...]:
    """The words of a text in the form in which they are compared."""
    return tuple(_WORD.findall(unicodedata.normalize("NFKC", text).casefold().replace("’", "'")))


def compile_pattern(pattern: str) -> "re2._Regexp[str]":
    """A regular expression in RE2's syntax (https://github.com/google/re2/wiki/Syntax), matched in linear time.

    Raises:
        PatternError: it does not compile, or needs more than `PATTERN_MEMORY`.
    """
    options = re2.Options()
    options.max_mem = PATTERN_MEMORY
    options.log_errors = False
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        reason = error.args[0] if error.args else ""
        raise PatternError(reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)) from error


@dataclass(frozen=True)
class Wanted:
    """What to look for: any of the phrases, or a sentence that is the pattern from beginning to end.

    Attributes:
        phrases: words that follow each other within a sentence.
        pattern: for the whole sentence in its compared form: lower-case words with one space between them. Empty for
            none.
    """

    phrases: tuple[str, ...] = ()
    pattern: str = ""


@dataclass(frozen=True)
class Match:
    """Something was found.

    Attributes:
        index: which of the `Wanted`.
        sentence: in which it was found, as written.
    """

    index: int
    sentence: str


class TextMatcher:
    """One answer's text. Each `Wanted` is found once at most.

    Raises:
        PatternError: a pattern does not compile.
    """

    def __init__(self, wanted: Sequence[Wanted]) -> None:
        self._phrases = [[words(phrase) for phrase in one.phrases] for one in wanted]
        self._patterns = [compile_pattern(one.pattern) if one.pattern else None for one in wanted]
        self._open = set(range(len(wanted)))
        self._sentence = ""

    def feed(self, piece: str) -> list[Match]:
        """More text."""
        self._sentence += piece
        found = []
        while end := _SENTENCE_END.search(self._sentence):
            found += self._look(self._sentence[: end.end()])
            self._sentence = self._sentence[end.end() :]
        while len(self._sentence) > LONGEST_SENTENCE:
            found += self._look(self._sentence[:LONGEST_SENTENCE])
            self._sentence = self._sentence[LONGEST_SENTENCE:]
        return found

    def finish(self) -> list[Match]:
        """No more text follows."""
        rest, self._sentence = self._sentence, ""
        return self._look(rest)

    def _look(self, sentence: str) -> list[Match]:
        said = words(sentence)
        found = [index for index in sorted(self._open) if said and self._is_in(index, said)]
        self._open.difference_update(found)
        return [Match(index, " ".join(sentence.split())) for index in found]

    def _is_in(self, index: int, said: tuple[str, ...]) -> bool:
        pattern = self._patterns[index]
        if pattern is not None and pattern.fullmatch(" ".join(said)):
            return True
        return any(_contains(said, phrase) for phrase in self._phrases[index])


def _contains(said: tuple[str, ...], phrase: tuple[str, ...]) -> bool:
    return any(said[start : start + len(phrase)] == phrase for start in range(len(said) - len(phrase) + 1))
