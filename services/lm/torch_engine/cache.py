"""Keys and values of all sessions: one pool of memory, handed out in blocks (Kwon et al. 2023)."""

import heapq
from collections.abc import Iterable
from dataclasses import dataclass

import torch

from services.lm.weights import Architecture

BLOCK_TOKENS = 32


@dataclass(frozen=True)
class CacheShape:
    """What one position holds: keys and values of `kv_heads` heads of `size` numbers, in every layer."""

    layers: int
    kv_heads: int
    size: int

    @classmethod
    def of(cls, architecture: Architecture) -> "CacheShape":
        """The shape that a network asks for."""
        return cls(architecture.layers, architecture.kv_heads, architecture.size)

    def block_bytes(self, dtype: torch.dtype) -> int:
        """Memory of one block."""
        return self.layers * 2 * self.kv_heads * self.size * BLOCK_TOKENS * dtype.itemsize


class BlockPool:
    """All the memory for keys and values there is; `data` is (layers, 2, blocks, key-value heads, block, size).

    Block 0 is nobody's: what pads a batch reads and writes there. The lowest free blocks are handed out first, so that
    the used part stays dense.

    Args:
        tokens: how many positions must fit; rounded up to whole blocks.
    """

    def __init__(self, shape: CacheShape, tokens: int, dtype: torch.dtype, device: torch.device) -> None:
        self.blocks = blocks_for(tokens)
        # Zeros, because a block's unused positions take part in products, with weight 0.
        self.data = torch.zeros(
            shape.layers, 2, self.blocks + 1, shape.kv_heads, BLOCK_TOKENS, shape.size, dtype=dtype, device=device
        )
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

    def __init__(self, pool: BlockPool) -> None:
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
