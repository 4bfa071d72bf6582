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
        self._keys = torch.empty(layers, heads, 0, size, dtype=dtype, device=device)
        self._values = torch.empty_like(self._keys)

    def reserve(self, count: int) -> None:
        """Makes room for `count` more positions."""
        capacity = self._keys.shape[2]
        if self.length + count <= capacity:
            return
        while capacity < self.length + count:
            capacity = max(2 * capacity, _FIRST_CAPACITY)
        self._keys = self._grown(self._keys, capacity)
        self._values = self._grown(self._values, capacity)

    def write(self, layer: int, keys: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Puts one layer's keys and values (heads, count, size) after the present length.

        The length moves on only by `advance`, when all layers are written. Returns the layer's keys and values from
        position 0 on, the new ones included.
        """
        end = self.length + keys.shape[1]
        self._keys[layer, :, self.length : end] = keys
        self._values[layer, :, self.length : end] = values
        return self._keys[layer, :, :end], self._values[layer, :, :end]

    def advance(self, count: int) -> None:
        """Makes `count` positions that were written in every layer part of the session."""
        self.length += count

    def truncate(self, length: int) -> None:
        """Forgets everything from position `length` on."""
        self.length = min(self.length, length)

    def _grown(self, old: torch.Tensor, capacity: int) -> torch.Tensor:
        layers, heads, _, size = old.shape
        new = old.new_empty(layers, heads, capacity, size)
        new[:, :, : self.length] = old[:, :, : self.length]
        return new
