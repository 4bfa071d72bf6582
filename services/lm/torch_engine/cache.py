"""Keys and values of one session."""

import torch

_FIRST_CAPACITY = 256


class KVCache:
    """Grows by doubling, so that a long session is copied a few times only; truncating is exact and free.

    Args:
        shape: (layers, key-value heads, head dimension).
    """

    def __init__(self, shape: tuple[int, int, int], dtype: torch.dtype, device: torch.device) -> None:
        layers, heads, size = shape
        self.length = 0
        self._data = torch.empty(layers, 2, heads, 0, size, dtype=dtype, device=device)

    def reserve(self, count: int) -> None:
        """Makes room for `count` more positions."""
        layers, pair, heads, capacity, size = self._data.shape
        if self.length + count <= capacity:
            return
        while capacity < self.length + count:
            capacity = max(2 * capacity, _FIRST_CAPACITY)
        grown = self._data.new_empty(layers, pair, heads, capacity, size)
        grown[..., : self.length, :] = self._data[..., : self.length, :]
        self._data = grown

    def write(self, layer: int, pairs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Puts one layer's keys and values, (2, heads, count, size), after the present length.

        The length moves on only by `advance`, when all layers are written. Returns the layer's keys and values,
        (heads, length + count, size) each, from position 0 on.
        """
        end = self.length + pairs.shape[2]
        data = self._data[layer]
        data[:, :, self.length : end] = pairs
        keys, values = data[:, :, :end].unbind(0)
        return keys, values

    def advance(self, count: int) -> None:
        """Makes `count` positions that were written in every layer part of the session."""
        self.length += count

    def truncate(self, length: int) -> None:
        """Forgets everything from position `length` on."""
        self.length = min(self.length, length)
