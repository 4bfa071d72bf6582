"""Which sessions may keep keys and values reserved while nothing of them is computed. Pure."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass


@dataclass
class _Place:
    size: int
    give_way: Callable[[], None]
    needed: bool = False


class Parking:
    """Bounds what waiting requests hold; those that have waited longest give way.

    vLLM takes memory back from requests that it computes, not from requests that wait for more input or for their next
    step: if those held all of it, nothing could be computed any more. What gives way is not lost at once: vLLM's prefix
    cache has it for as long as the memory is not needed.

    Args:
        limit: tokens that all waiting requests together may hold.
        block: tokens of one block; vLLM hands out memory in whole blocks.
    """

    def __init__(self, limit: int, block: int) -> None:
        self._limit = limit
        self._block = block
        self._places: dict[Hashable, _Place] = {}
        self.held = 0

    def put(self, key: Hashable, tokens: int, give_way: Callable[[], None]) -> None:
        """A request waits, holding `tokens`. `give_way` is called when others need the place, perhaps at once."""
        self.remove(key)
        size = -(-tokens // self._block) * self._block
        self._places[key] = _Place(size, give_way)
        self.held += size
        while self.held > self._limit:
            # There is one: the newest itself.
            leaving = next(key for key, place in self._places.items() if not place.needed)
            give_way = self._places[leaving].give_way
            self.remove(leaving)
            give_way()

    def need(self, key: Hashable) -> None:
        """The request is about to be computed and does not give way until it is `put` again."""
        if key in self._places:
            self._places[key].needed = True

    def remove(self, key: Hashable) -> None:
        """The request is no more."""
        if (place := self._places.pop(key, None)) is not None:
            self.held -= place.size
