"""Wordings with alternatives: "[what|which] are your [opening|] hours" stands for four sentences.

Brackets nest. An empty alternative leaves the words out. `{slot}` is left for the caller of this module to fill.
Chinese is written without blanks, also beside words of another script.
"""

import functools
import re
from collections.abc import Iterator
from itertools import product
from math import prod
from random import Random

Patterns = dict[str, list[str]]  # by intent

# Han characters, and the punctuation that is written with them.
_CHINESE = r"[\u3001-\u303f\u4e00-\u9fff\uff01-\uff5e]"
_BESIDE_CHINESE = re.compile(rf"(?<={_CHINESE}) | (?={_CHINESE})")


@functools.cache
def _split(pattern: str) -> tuple[str | list[str], ...]:
    """A pattern as literal pieces and lists of alternatives (each a pattern of its own)."""
    pieces: list[str | list[str]] = []
    literal = ""
    i = 0
    while i < len(pattern):
        if pattern[i] == "]":
            raise ValueError(f"unmatched ] in {pattern!r}")
        if pattern[i] != "[":
            literal += pattern[i]
            i += 1
            continue
        depth, start, options = 1, i + 1, []
        i += 1
        while depth:
            if i == len(pattern):
                raise ValueError(f"unmatched [ in {pattern!r}")
            if pattern[i] == "[":
                depth += 1
            elif pattern[i] == "]":
                depth -= 1
            if (pattern[i] == "|" and depth == 1) or not depth:
                options.append(pattern[start:i])
                start = i + 1
            i += 1
        pieces += [literal, options]
        literal = ""
    return (*pieces, literal)


def tidy(text: str) -> str:
    """One blank between words, none at the ends and none beside Chinese."""
    return _BESIDE_CHINESE.sub("", " ".join(text.split()))


def expand(pattern: str, rng: Random) -> str:
    """One of the pattern's sentences. Raises ValueError for unmatched brackets."""
    parts = [piece if isinstance(piece, str) else expand(rng.choice(piece), rng) for piece in _split(pattern)]
    return tidy("".join(parts))


@functools.cache
def count(pattern: str) -> int:
    """How many sentences the pattern stands for, those that are equal counted apart. Raises like `expand`."""
    return prod(sum(count(option) for option in piece) for piece in _split(pattern) if not isinstance(piece, str))


def makes(pattern: str, sentence: str) -> bool:
    """Whether a sentence, slots still open, is one of the pattern's; white space does not count."""
    return _compiled(pattern).fullmatch("".join(sentence.split())) is not None


@functools.cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(_expression(pattern))


@functools.cache
def _expression(pattern: str) -> str:
    parts = []
    for piece in _split(pattern):
        if isinstance(piece, str):
            parts.append(re.escape("".join(piece.split())))
        else:
            parts.append("(?:" + "|".join(_expression(option) for option in piece) + ")")
    return "".join(parts)


def every(pattern: str) -> Iterator[str]:
    """All sentences of the pattern, in order. Raises ValueError for unmatched brackets."""
    options = [
        [piece] if isinstance(piece, str) else [text for option in piece for text in every(option)]
        for piece in _split(pattern)
    ]
    for choice in product(*options):
        yield tidy("".join(choice))
