"""Gaussian noise indexed by position: the same seed and frame give the same values, whatever is asked for before."""

import hashlib
import struct

import torch
from torch import Tensor

_BLOCK = 64


class PositionalNoise:
    """Endless noise of one utterance, cut from blocks that are each seeded by (seed, stream, block).

    Args:
        seed: of the utterance, 0 .. 2^64 - 1.
        stream: what the noise is for; streams of one seed are independent.
        shape: values of one frame.
    """

    def __init__(self, seed: int, stream: str, shape: tuple[int, ...]) -> None:
        self._key = struct.pack("<Q", seed) + stream.encode()
        self._shape = shape
        self._cache: dict[int, Tensor] = {}

    def frames(self, start: int, stop: int) -> Tensor:
        """(stop - start, *shape) standard normal, float32 on the CPU."""
        first, last = start // _BLOCK, max(start, stop - 1) // _BLOCK
        for index in [index for index in self._cache if not first <= index <= last]:
            del self._cache[index]
        blocks = torch.cat([self._block(index) for index in range(first, last + 1)])
        return blocks[start - first * _BLOCK : stop - first * _BLOCK]

    def _block(self, index: int) -> Tensor:
        if index not in self._cache:
            digest = hashlib.blake2b(self._key + struct.pack("<q", index), digest_size=8).digest()
            generator = torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)
            self._cache[index] = torch.randn((_BLOCK, *self._shape), generator=generator)
        return self._cache[index]
