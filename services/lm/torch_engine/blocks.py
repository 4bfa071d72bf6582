"""Which blocks of the memory for keys and values belong to which session. Pure bookkeeping: holds no tensor."""

import heapq
from collections.abc import Iterable

BLOCK_TOKENS = 32


class Blocks:
    """Numbered blocks, from 1 on. The lowest free ones are handed out first, so that the used part stays dense.

    Args:
        tokens: how many positions must fit; rounded up to whole blocks.
    """

    def __init__(self, tokens: int) -> None:
        self.blocks = blocks_for(tokens)
        self._free = list(range(1, self.blocks + 1))

    @property
    def free(self) -> int:
        """Blocks that nobody holds."""
        return len(self._free)

    @property
    def tokens(self) -> int:
        """Positions that fit, free or not."""
        return self.blocks * BLOCK_TOKENS

    def take(self, count: int) -> list[int]:
        """Hands out `count` blocks; there must be so many."""
        return [heapq.heappop(self._free) for _ in range(count)]

    def give_back(self, blocks: Iterable[int]) -> None:
        """Frees blocks."""
        for block in blocks:
            heapq.heappush(self._free, block)


class KVCache:
    """One session's part of the pool. Truncating is exact: what stays is not touched."""

    def __init__(self, pool: Blocks) -> None:
        self._pool = pool
        self.length = 0
        self.blocks: list[int] = []

    def missing(self, count: int) -> int:
        """Blocks that `count` more positions need beyond those held."""
        return max(blocks_for(self.length + count) - len(self.blocks), 0)

    def reserve(self, count: int) -> None:
        """Takes the blocks that `count` more positions need; the pool must have them."""
        self.blocks += self._pool.take(self.missing(count))

    def advance(self, count: int) -> None:
        """Makes `count` positions that were written in every layer part of the session."""
        self.length += count

    def truncate(self, length: int) -> None:
        """Forgets everything from position `length` on, and frees the blocks that are not needed any more."""
        self.length = min(self.length, length)
        kept = blocks_for(self.length)
        self._pool.give_back(self.blocks[kept:])
        del self.blocks[kept:]


def blocks_for(tokens: int) -> int:
    """How many blocks hold `tokens` positions."""
    return -(-tokens // BLOCK_TOKENS)
