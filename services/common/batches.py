"""A batch in which one item may be bad."""

from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def together(items: Sequence[T], compute: Callable[[Sequence[T]], Sequence[R]]) -> list[R | Exception]:
    """Computes all items as one batch; where that fails, each by itself, so that a bad one fails alone.

    Args:
        compute: gives a result for each item, in order. When it raises, no item may have moved on.

    Returns:
        For each item its result, or what it failed with alone.
    """
    if not items:
        return []
    try:
        return list(compute(items))
    except Exception as error:  # whatever the models raise belongs to those who asked
        if len(items) == 1:
            return [error]
    return [together([item], compute)[0] for item in items]
