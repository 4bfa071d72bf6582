"""Attention of new tokens over sessions' keys and values in the block pool. One plan serves all layers of a step.

Query heads that share a key-value head are laid out as more queries of it, so that keys are never repeated. Shapes:
`kv` key-value heads, `group` query heads to each, `size` numbers a head.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F

from services.lm.torch_engine.blocks import BLOCK_TOKENS, KVCache
from services.lm.torch_engine.cache import BlockPool

# Blocks that lie between those of a batch are computed along with them, and thrown away, up to this many for each one
# that is wanted; beyond, the wanted ones are copied together.
_SPARSEST = 3
_NOTHING = torch.zeros(())


class Plan(Protocol):
    """How the queries of some rows find their keys and values."""

    def __call__(self, layer: int, queries: torch.Tensor) -> torch.Tensor:
        """(rows, kv * group, size) in, the same out. The rows' own keys and values must be in the pool."""


class StepAttention:
    """What a step's rows attend to: puts their keys and values into the pool, then lets each plan do its rows.

    Args:
        blocks: (rows,) the block of each row's position.
        offsets: (rows,) the position within its block.
        plans: with the number of rows of each, in the order of the rows.
    """

    def __init__(
        self, pool: BlockPool, blocks: torch.Tensor, offsets: torch.Tensor, plans: Sequence[tuple[int, Plan]]
    ) -> None:
        self._pool = pool
        # The rows of a layer's memory that each token's keys and then its values take, one for each head.
        _, _, count, kv, block, _ = pool.data.shape
        pair, head = torch.arange(2, device=blocks.device)[:, None], torch.arange(kv, device=blocks.device)
        self._rows = (((pair * count + blocks[:, None, None]) * kv + head) * block + offsets[:, None, None]).flatten()
        self._plans = [plan for _, plan in plans]
        self._counts = [count for count, _ in plans]

    def __call__(self, layer: int, queries: torch.Tensor, pairs: torch.Tensor) -> torch.Tensor:
        """Queries (rows, heads, size), keys and values (rows, 2, kv, size) -> (rows, heads, size)."""
        size = pairs.shape[-1]
        self._pool.data[layer].view(-1, size).index_copy_(0, self._rows, pairs.reshape(-1, size))
        if len(self._plans) == 1:
            return self._plans[0](layer, queries)
        parts = torch.split(queries, self._counts)
        return torch.cat([plan(layer, part) for plan, part in zip(self._plans, parts, strict=True)])


class ChunkPlan:
    """Consecutive new tokens of one session, each seeing the session up to itself.

    Args:
        cache: of the session; blocks for the new tokens are reserved already.
        count: how many new tokens.
    """

    def __init__(self, pool: BlockPool, cache: KVCache, count: int, group: int) -> None:
        device = pool.data.device
        self._pool = pool
        self._end = cache.length + count
        self._blocks = torch.tensor(cache.blocks, device=device)
        seen = torch.ones(count, self._end, dtype=torch.bool, device=device).tril(diagonal=cache.length)
        self._mask = seen.repeat(group, 1)

    def __call__(self, layer: int, queries: torch.Tensor) -> torch.Tensor:
        """See `Plan`."""
        count, heads, size = queries.shape
        kept = self._pool.data[layer].index_select(1, self._blocks)
        pair, blocks, kv, block, _ = kept.shape
        keys, values = kept.transpose(1, 2).reshape(pair, 1, kv, blocks * block, size)[..., : self._end, :].unbind(0)
        asked = queries.transpose(0, 1).reshape(1, kv, -1, size)
        seen = F.scaled_dot_product_attention(asked, keys, values, attn_mask=self._mask)
        return seen.view(heads, count, size).transpose(0, 1)


class PaddedPlan:
    """One new token of each of several sessions, with their keys and values copied side by side.

    Every shape depends on the number of sessions and the width of the table alone, so the operations can be captured
    in a CUDA graph; the tensors are read at each call.

    Args:
        table: (sessions, width) blocks of each session, padded with 0.
        lengths: (sessions,) positions that each session's query sees, itself included.
    """

    def __init__(self, pool: BlockPool, table: torch.Tensor, lengths: torch.Tensor) -> None:
        self._pool = pool
        self._table = table
        self._lengths = lengths

    def __call__(self, layer: int, queries: torch.Tensor) -> torch.Tensor:
        """See `Plan`."""
        sessions, heads, size = queries.shape
        width = self._table.shape[1] * BLOCK_TOKENS
        kept = self._pool.data[layer]
        kv = kept.shape[2]
        # Heads become rows of their own, so that one copy brings a head's blocks side by side.
        rows = (self._table[:, None, :] * kv + torch.arange(kv, device=self._table.device)[:, None]).flatten()
        keys, values = kept.flatten(1, 2).index_select(1, rows).view(2, sessions, kv, width, size).unbind(0)
        seen = torch.arange(width, device=self._lengths.device) < self._lengths[:, None]
        out = F.scaled_dot_product_attention(
            queries.reshape(sessions, kv, heads // kv, size), keys, values, attn_mask=seen[:, None, None]
        )
        return out.reshape(sessions, heads, size)


class PoolPlan:
    """One new token of each of several sessions, with keys and values left where they are.

    On a CPU, moving keys and values costs more than computing with them. Each block is one entry of a batched product
    with its own session's query. Only the scores, which are small, are laid out by session for the softmax and then
    back by block.

    Args:
        caches: of the sessions; the block for each new token is reserved already.
        heads: query heads.
    """

    def __init__(self, pool: BlockPool, caches: Sequence[KVCache], heads: int) -> None:
        self._pool = pool
        # NumPy: its operations on a few numbers take a fraction of the time that torch's do.
        counts = np.array([len(cache.blocks) for cache in caches])
        held = np.array([block for cache in caches for block in cache.blocks])
        sessions, width = len(caches), int(counts.max())
        low, high = int(held.min()), int(held.max()) + 1
        self._dense = high - low <= _SPARSEST * len(held)
        self._range = slice(low, high)
        self._held = torch.from_numpy(held)
        count = high - low if self._dense else len(held)
        at = held - low if self._dense else np.arange(count)
        session = np.repeat(np.arange(sessions), counts)
        column = np.arange(len(held)) - np.repeat(counts.cumsum() - counts, counts)
        # Which session asks each block, and where its scores go; blocks between those of the batch ask in vain.
        asking, by_block = np.zeros((2, count), np.int64)
        asking[at], by_block[at] = session, session * heads * width + column
        by_session = np.zeros((sessions, 1, width), np.int64)
        by_session[session, 0, column] = at
        owners = np.zeros((sessions, count), np.float32)
        owners[session, at] = 1
        head = np.arange(heads)
        lengths = np.array([cache.length + 1 for cache in caches])
        unseen = np.where(np.arange(width * BLOCK_TOKENS) < lengths[:, None], np.float32(0), np.float32(-np.inf))
        self._asking = torch.from_numpy(asking)
        self._to_sessions = torch.from_numpy((by_session * heads + head[:, None]).ravel())
        self._to_blocks = torch.from_numpy((by_block[:, None] + head * width).ravel())
        self._owners = torch.from_numpy(owners)
        self._unseen = torch.from_numpy(unseen)[:, None]

    def __call__(self, layer: int, queries: torch.Tensor) -> torch.Tensor:
        """See `Plan`."""
        sessions, heads, size = queries.shape
        kept = self._pool.data[layer]
        kept = kept[:, self._range] if self._dense else kept.index_select(1, self._held)
        _, blocks, kv, block, _ = kept.shape
        group = heads // kv
        asked = queries.index_select(0, self._asking).view(blocks * kv, group, size)
        scores = torch.baddbmm(_NOTHING, asked, kept[0].flatten(0, 1).transpose(1, 2), beta=0, alpha=size**-0.5)
        by_session = scores.view(blocks * heads, block).index_select(0, self._to_sessions).view(sessions, heads, -1)
        shares = by_session.add_(self._unseen).softmax(-1)
        by_block = shares.view(-1, block).index_select(0, self._to_blocks).view(blocks * kv, group, block)
        parts = torch.bmm(by_block, kept[1].flatten(0, 1)).view(blocks, heads * size)
        return (self._owners @ parts).view(sessions, heads, size)
