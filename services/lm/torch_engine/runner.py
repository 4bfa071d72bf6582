"""Runs the model on a flat batch: new tokens of many sessions in one row, each attending to its own session."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from transformers import AttentionInterface

from services.lm.torch_engine.cache import KVCache

_ATTENTION = "trunkline_flat"


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


def _attend(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: None,
    *,
    scaling: float,
    places: Sequence[_Place],
    **_others: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of each span over its own session; (1, heads, row, size) in, (1, row, heads, size) out.

    Query heads that share a key-value head are laid out as more queries of it, so that keys are never repeated.
    """
    heads, row, size = query.shape[1:]
    kv_heads = key.shape[1]
    group = heads // kv_heads
    out = query.new_empty(row, heads, size)
    for place in places:
        count = place.end - place.start
        keys, values = place.cache.write(
            module.layer_idx, key[0, :, place.start : place.end], value[0, :, place.start : place.end]
        )
        queries = query[0, :, place.start : place.end].reshape(1, kv_heads, group * count, size)
        seen = F.scaled_dot_product_attention(
            queries, keys[None], values[None], attn_mask=place.mask, scale=scaling
        ).view(heads, count, size)
        out[place.start : place.end] = seen.transpose(0, 1)
    return out[None], None


AttentionInterface.register(_ATTENTION, _attend)


class Runner:
    """Owns the model.

    Args:
        model: transformers' `GlmForCausalLM`.
    """

    def __init__(self, model: Any) -> None:
        model.config._attn_implementation = _ATTENTION
        self._model = model
        self._group = model.config.num_attention_heads // model.config.num_key_value_heads
        self.device: torch.device = model.lm_head.weight.device

    def cache(self) -> KVCache:
        """An empty cache for a session."""
        config = self._model.config
        shape = (config.num_hidden_layers, config.num_key_value_heads, config.head_dim)
        return KVCache(shape, self._model.lm_head.weight.dtype, self.device)

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
        inner = self._model.model
        hidden = inner.embed_tokens(torch.tensor([ids], device=self.device))
        rotation = inner.rotary_emb(hidden, torch.tensor([positions], device=self.device))
        for layer in inner.layers:
            hidden = layer(hidden, position_embeddings=rotation, places=places)
        for place in places:
            place.cache.advance(place.end - place.start)
        last = torch.tensor([place.end - 1 for place in places], device=self.device)
        logits: torch.Tensor = self._model.lm_head(inner.norm(hidden[0, last]))
        return logits.float()

    def _mask(self, past: int, count: int) -> torch.Tensor | None:
        if count == 1:
            return None
        causal = torch.ones(count, past + count, dtype=torch.bool, device=self.device).tril(diagonal=past)
        return causal.repeat(self._group, 1)
