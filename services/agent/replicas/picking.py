"""Which replica a call goes to. Pure: names, loads and chance in, an order out."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from random import Random
from typing import TypeVar

T = TypeVar("T")


def by_rendezvous(key: str, items: Iterable[T], name: Callable[[T], str]) -> list[T]:
    """Best first, by highest random weight (Thaler and Ravishankar 1998).

    Each key has an order of its own over all names, so when one goes, only its keys move, spread over the others.
    """

    def weight(item: T) -> bytes:
        return hashlib.blake2b(f"{key}\0{name(item)}".encode(), digest_size=8).digest()

    return sorted(items, key=weight, reverse=True)


def by_load(items: Sequence[T], load: Callable[[T], float], random: Random) -> list[T]:
    """Best first: the less loaded of two drawn by chance (Mitzenmacher 2001), then the others by load.

    What is known of loads is a little old. Were the least loaded taken, all agents would take the same one.
    """
    shuffled = random.sample(items, len(items))
    return sorted(shuffled[:2], key=load) + sorted(shuffled[2:], key=load)
