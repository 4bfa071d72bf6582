"""Which wordings and numbers are for training, validation or test: decided by a hash of the words, once and for all."""

import hashlib
from collections.abc import Iterable
from typing import Literal

Split = Literal["train", "validation", "test"]

_TEST, _VALIDATION = 10, 14  # per cent, cumulated


def split_of(key: str) -> Split:
    """The same key is in the same split on every machine and in every run."""
    bucket = int.from_bytes(hashlib.blake2b(key.lower().encode(), digest_size=4).digest(), "big") % 100
    if bucket < _TEST:
        return "test"
    return "validation" if bucket < _VALIDATION else "train"


def assert_disjoint(train: Iterable[str], held_out: Iterable[str], what: str) -> None:
    """Raises AssertionError naming an example when a held-out key is among the training keys."""
    common = set(train) & set(held_out)
    if common:
        raise AssertionError(f"{len(common)} {what} of the test are in training, such as {sorted(common)[0]!r}")
