"""Runs the model on a flat batch: new tokens of many sessions in one row, each attending to its own session.

The parameters are those of transformers' GLM classes. The arithmetic is written out here, because a decoding step of a
small model is mostly the cost of calling operations, and the classes' own forward needs about half as many again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from services.lm.torch_engine.cache import KVCache


@dataclass(frozen=True)
class Span:
    """Tokens that follow what `cache` holds, at least one."""

    cache: KVCache
    tokens: Sequence[int]


@dataclass(frozen=True)
class _Place:
    """Where a span lies in the row, and which keys its queries may see: (queries, keys), None for all."""

    cache: KVCache
    start: int
    end: int
    mask: torch.Tensor | None


@dataclass(frozen=True)
class _Layer:
    """The parameters of one layer; query, key and value projections are one matrix."""

    norm: torch.Tensor
    qkv: torch.Tensor
    qkv_bias: torch.Tensor
    out: torch.Tensor
    mlp_norm: torch.Tensor
    gate_up: torch.Tensor
    down: torch.Tensor


class Runner:
    """Owns the model; its projection matrices are laid out anew in place.

    Args:
        model: transformers' `GlmForCausalLM` in float32, bfloat16 or float16.
    """

    def __init__(self, model: Any) -> None:
        config = model.config
        self._heads: int = config.num_attention_heads
        self._kv_heads: int = config.num_key_value_heads
        self._size: int = config.head_dim
        self._eps: float = config.rms_norm_eps
        self._layers = [_layer(layer) for layer in model.model.layers]
        self._embedding: torch.Tensor = model.model.embed_tokens.weight
        self._norm: torch.Tensor = model.model.norm.weight
        self._head: torch.Tensor = model.lm_head.weight
        self.device: torch.device = self._head.device
        self._rotation = _rotation(model, config.max_position_embeddings, self._size)

    def cache(self) -> KVCache:
        """An empty cache for a session."""
        return KVCache((len(self._layers), self._kv_heads, self._size), self._head.dtype, self.device)

    @torch.inference_mode()
    def forward(self, spans: Sequence[Span]) -> torch.Tensor:
        """Computes the spans and adds them to their caches.

        Returns the logits after each span, (spans, vocabulary), float32.
        """
        ids: list[int] = []
        positions: list[int] = []
        places: list[_Place] = []
        for span in spans:
            count, past = len(span.tokens), span.cache.length
            span.cache.reserve(count)
            places.append(_Place(span.cache, len(ids), len(ids) + count, self._mask(past, count)))
            ids.extend(span.tokens)
            positions.extend(range(past, past + count))
        hidden = F.embedding(torch.tensor(ids, device=self.device), self._embedding)
        rotation = self._rotation[torch.tensor(positions, device=self.device)]
        for index, layer in enumerate(self._layers):
            qkv = F.linear(self._normed(hidden, layer.norm), layer.qkv, layer.qkv_bias)
            hidden = hidden + F.linear(self._attend(index, qkv, rotation, places), layer.out)
            gate, up = F.linear(self._normed(hidden, layer.mlp_norm), layer.gate_up).chunk(2, dim=-1)
            hidden = hidden + F.linear(F.silu(gate) * up, layer.down)
        for place in places:
            place.cache.advance(place.end - place.start)
        last = hidden[torch.tensor([place.end - 1 for place in places], device=self.device)]
        return F.linear(self._normed(last, self._norm), self._head).float()

    def _normed(self, hidden: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return F.rms_norm(hidden, (hidden.shape[-1],), weight, self._eps)

    def _attend(self, layer: int, qkv: torch.Tensor, rotation: torch.Tensor, places: Sequence[_Place]) -> torch.Tensor:
        """Attention of each span over its own session: (row, projections) in, (row, heads * size) out.

        Query heads that share a key-value head are laid out as more queries of it, so that keys are never repeated.
        """
        row, heads, kv_heads, size = len(qkv), self._heads, self._kv_heads, self._size
        split = qkv.view(row, heads + 2 * kv_heads, size)
        turned = split[:, : heads + kv_heads]
        pairs = torch.view_as_complex(turned.float().view(row, heads + kv_heads, size // 2, 2))
        turned.copy_(torch.view_as_real(pairs * rotation[:, None]).flatten(-2))
        out = qkv.new_empty(row, heads, size)
        for place in places:
            count = place.end - place.start
            own = split[place.start : place.end]
            keys, values = place.cache.write(layer, own[:, heads:].view(count, 2, kv_heads, size).permute(1, 2, 0, 3))
            queries = own[:, :heads].transpose(0, 1).reshape(1, kv_heads, -1, size)
            seen = F.scaled_dot_product_attention(queries, keys[None], values[None], attn_mask=place.mask)
            out[place.start : place.end] = seen.view(heads, count, size).transpose(0, 1)
        return out.flatten(1)

    def _mask(self, past: int, count: int) -> torch.Tensor | None:
        if count == 1:
            return None
        causal = torch.ones(count, past + count, dtype=torch.bool, device=self.device).tril(diagonal=past)
        return causal.repeat(self._heads // self._kv_heads, 1)


def _layer(layer: Any) -> _Layer:
    """Fuses q, k and v, and gives the modules their parts of the fused matrix, so that memory holds it once."""
    attention = layer.self_attn
    projections = (attention.q_proj, attention.k_proj, attention.v_proj)
    fused = _laid_out(torch.cat([projection.weight for projection in projections]))
    bias = torch.cat([projection.bias for projection in projections])
    start = 0
    for projection in projections:
        end = start + projection.out_features
        projection.weight = nn.Parameter(fused[start:end], requires_grad=False)
        projection.bias = nn.Parameter(bias[start:end], requires_grad=False)
        start = end
    for linear in (attention.o_proj, layer.mlp.gate_up_proj, layer.mlp.down_proj):
        linear.weight = nn.Parameter(_laid_out(linear.weight), requires_grad=False)
    return _Layer(
        norm=layer.input_layernorm.weight,
        qkv=fused,
        qkv_bias=bias,
        out=attention.o_proj.weight,
        mlp_norm=layer.post_attention_layernorm.weight,
        gate_up=layer.mlp.gate_up_proj.weight,
        down=layer.mlp.down_proj.weight,
    )


def _laid_out(weight: torch.Tensor) -> torch.Tensor:
    """The same matrix, stored by columns on the CPU: products with a few rows are a third faster so."""
    return weight.t().contiguous().t() if weight.device.type == "cpu" else weight.contiguous()


def _rotation(model: Any, length: int, size: int) -> torch.Tensor:
    """Rotary embedding as complex numbers, (positions, size / 2): neighbouring values are a pair (Su et al. 2021).

    The part of the head that is not rotated is multiplied by one.
    """
    frequencies = model.model.rotary_emb.inv_freq.float()
    angles = torch.arange(length, device=frequencies.device).float()[:, None] * frequencies
    turning = torch.polar(torch.ones_like(angles), angles)
    still = turning.new_ones(length, size // 2 - turning.shape[1])
    return torch.cat([turning, still], dim=1)
