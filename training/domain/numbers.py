"""Parcel numbers as they are said: digit by digit, sometimes with pauses, sometimes "oh" for zero."""

from random import Random

from training.corpus import DIGITS
from training.splits import Split, split_of

SHORTEST, LONGEST = 3, 6


def number_split(number: str) -> Split:
    """Split of a parcel number in words. Numbers of one or two digits are always for training: there are only 110."""
    return split_of(f"number {number}") if len(number.split()) >= SHORTEST else "train"


def random_number(rng: Random, split: Split, length: int | None = None) -> str:
    """Digits in words, "four seven one nine", of the given split; 3 to 6, mostly four, when no length is given."""
    count = length or rng.choice([3, 4, 4, 4, 4, 5, 5, 6])
    while True:
        number = " ".join(rng.choice(DIGITS) for _ in range(count))
        if number_split(number) == split or count < SHORTEST:
            return number


def as_said(number: str, rng: Random) -> str:
    """The number in a caller's mouth: one caller in six says "oh" for zero."""
    return number.replace("zero", "oh") if rng.random() < 0.16 else number
