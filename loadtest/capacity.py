"""The largest load that keeps the targets: doubles until they are missed, then halves the interval. Pure."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

Holds = Callable[[int], Awaitable[bool]]


@dataclass(frozen=True)
class Capacity:
    """What was found.

    Attributes:
        calls: the largest number at which the targets held; 0: at none.
        beyond: the smallest at which they did not; None: they held at the most that was tried.
        tried: numbers in the order in which they were tried, and whether the targets held.
    """

    calls: int
    beyond: int | None
    tried: tuple[tuple[int, bool], ...]


async def find(holds: Holds, first: int, most: int, within: int = 1) -> Capacity:
    """Searches, taking it that whoever cannot carry a load cannot carry a larger one.

    Args:
        holds: tries a number of calls at once.
        first: where to begin.
        most: that is tried.
        within: how closely to search.

    Raises:
        ValueError: the numbers make no sense.
    """
    if not 1 <= first <= most or within < 1:
        raise ValueError(f"first {first}, most {most}, within {within}: 1 <= first <= most and within >= 1")
    tried: list[tuple[int, bool]] = []

    async def attempt(calls: int) -> bool:
        held = await holds(calls)
        tried.append((calls, held))
        return held

    good, bad = 0, None
    calls = first
    while bad is None and good < most:
        if await attempt(calls):
            good, calls = calls, min(most, 2 * calls)
        else:
            bad = calls
    while bad is not None and bad - good > within:
        middle = (good + bad) // 2
        if await attempt(middle):
            good = middle
        else:
            bad = middle
    return Capacity(good, bad, tuple(tried))
