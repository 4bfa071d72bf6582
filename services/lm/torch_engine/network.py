"""The GLM-4 network on a flat row of tokens; what a token attends to is left to the caller.

The arithmetic is that of transformers' GLM classes, written out: a decoding step of a small model is mostly the cost of
calling operations, and a step that is captured in a CUDA graph must own its memory.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F

from services.lm.torch_engine.parameters import Parameters

# layer, queries (rows, heads, size), keys and values (rows, 2, key-value heads, size) -> (rows, heads, size)
Attend = Callable[[int, torch.Tensor, torch.Tensor], torch.Tensor]


class Network:
    """Embedding, layers and output of a loaded model."""

    def __init__(self, parameters: Parameters) -> None:
        self._parameters = parameters
        self._turns = _turns(parameters)

    def hidden(self, ids: torch.Tensor, positions: torch.Tensor, attend: Attend) -> torch.Tensor:
        """States after the last layer, (rows, hidden), of tokens `ids` at `positions`, (rows,) each."""
        parameters = self._parameters
        architecture = parameters.architecture
        heads, kv, size = architecture.heads, architecture.kv_heads, architecture.size
        rows = len(ids)
        hidden = F.embedding(ids, parameters.embedding)
        turns = self._turns[positions][:, None]
        for index, layer in enumerate(parameters.layers):
            qkv = F.linear(self._normed(hidden, layer.norm), layer.qkv, layer.qkv_bias)
            split = qkv.view(rows, heads + 2 * kv, size)
            _turn(split[:, : heads + kv], turns)
            seen = attend(index, split[:, :heads], split[:, heads:].view(rows, 2, kv, size))
            hidden = hidden + F.linear(seen.reshape(rows, heads * size), layer.out)
            gate, up = F.linear(self._normed(hidden, layer.mlp_norm), layer.gate_up).chunk(2, dim=-1)
            hidden = hidden + F.linear(F.silu(gate) * up, layer.down)
        return hidden

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """(rows, hidden) -> (rows, vocabulary), float32."""
        return F.linear(self._normed(hidden, self._parameters.norm), self._parameters.head).float()

    def _normed(self, hidden: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return F.rms_norm(hidden, (hidden.shape[-1],), weight, self._parameters.architecture.eps)


def _turn(heads: torch.Tensor, turns: torch.Tensor) -> None:
    """Turns (rows, heads, size) in place by (rows, 1, size / 2) complex numbers."""
    pairs = heads.view(*heads.shape[:-1], -1, 2)
    if heads.dtype == torch.float32:
        torch.view_as_complex(pairs).mul_(turns)
    else:
        pairs.copy_(torch.view_as_real(torch.view_as_complex(pairs.float()) * turns))


def _turns(parameters: Parameters) -> torch.Tensor:
    """Rotary embedding as complex numbers, (positions, size / 2): neighbouring values are a pair (Su et al. 2021).

    The half of the head that is not turned is multiplied by one.
    """
    architecture = parameters.architecture
    turning = architecture.size // 2
    exponents = torch.arange(0, turning, 2, dtype=torch.float32, device=parameters.device) / turning
    positions = torch.arange(architecture.context_length, dtype=torch.float32, device=parameters.device)
    angles = positions[:, None] / architecture.rope_base**exponents
    turns = torch.polar(torch.ones_like(angles), angles)
    still = turns.new_ones(len(positions), (architecture.size - turning) // 2)
    return torch.cat([turns, still], dim=1)
