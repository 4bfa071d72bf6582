"""Keys and values of all sessions: one pool of memory, handed out in blocks (Kwon et al. 2023)."""

from dataclasses import dataclass

import torch

from services.lm.torch_engine.blocks import BLOCK_TOKENS, Blocks
from services.lm.weights import Architecture


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


class BlockPool(Blocks):
    """All the memory for keys and values there is; `data` is (layers, 2, blocks, key-value heads, block, size).

    Block 0 is nobody's: what pads a batch reads and writes there.

    Args:
        tokens: how many positions must fit; rounded up to whole blocks.
    """

    def __init__(self, shape: CacheShape, tokens: int, dtype: torch.dtype, device: torch.device) -> None:
        super().__init__(tokens)
        # Zeros, because a block's unused positions take part in products, with weight 0.
        self.data = torch.zeros(
            shape.layers, 2, self.blocks + 1, shape.kv_heads, BLOCK_TOKENS, shape.size, dtype=dtype, device=device
        )
