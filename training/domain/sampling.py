"""Drawing from patterns by split.

A wording is one sentence of a pattern, slots left open. Which split it is in depends on its words alone; wordings of
one or two words, a word being two Chinese characters ("yes", "opening hours", "几点开门"), are common property and
always for training.
"""

import functools
import re
from random import Random

from training.grammar import Patterns, count, every, expand
from training.splits import Split, split_of

_ALWAYS_TRAINED_WORDS = 2
_CHARACTERS_A_WORD = 2
_SLOT = re.compile(r"\{\w+\}")
_HAN = re.compile(r"[\u4e00-\u9fff]")
_LISTED = 2_000  # patterns of more sentences are drawn from without listing them
_TRIES = 400


def wording_split(wording: str) -> Split:
    """Split of one wording, its slots still open."""
    words = _SLOT.sub(" ", wording)
    size = len(_HAN.sub(" ", words).split()) + len(_HAN.findall(words)) / _CHARACTERS_A_WORD
    return "train" if size <= _ALWAYS_TRAINED_WORDS else split_of(f"wording {wording}")


class Wordings:
    """The wordings of one language."""

    def __init__(self, patterns: Patterns) -> None:
        self.patterns = patterns
        self._by_split = functools.cache(self._list)
        self._patterns_with = functools.cache(self._choices)

    def random(self, intent: str, split: Split, rng: Random) -> str:
        """A wording of the intent; patterns are equally likely, however many sentences they stand for.

        Raises ValueError when none is in the split.
        """
        choices = self._patterns_with(intent, split)
        if not choices:
            raise ValueError(f"no wording of {intent!r} is in the {split} split")
        number = rng.choice(choices)
        pattern = self.patterns[intent][number]
        if count(pattern) <= _LISTED:
            return rng.choice(self._by_split(intent, number)[split])
        for _ in range(_TRIES):
            if wording_split(text := expand(pattern, rng)) == split:
                return text
        raise ValueError(f"no wording of {pattern!r} was found in the {split} split")

    def _list(self, intent: str, pattern: int) -> dict[Split, list[str]]:
        """All wordings of one pattern."""
        listed: dict[Split, list[str]] = {"train": [], "validation": [], "test": []}
        for text in dict.fromkeys(every(self.patterns[intent][pattern])):
            listed[wording_split(text)].append(text)
        return listed

    def _choices(self, intent: str, split: Split) -> tuple[int, ...]:
        patterns = enumerate(self.patterns[intent])
        return tuple(i for i, pattern in patterns if count(pattern) > _LISTED or self._by_split(intent, i)[split])
