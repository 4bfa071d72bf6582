"""Runs the network on a batch of spans: new tokens of many sessions in one row, each attending to its own session."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import torch

from services.lm.torch_engine.attention import ChunkPlan, PaddedPlan, Plan, PoolPlan, StepAttention
from services.lm.torch_engine.blocks import BLOCK_TOKENS, KVCache
from services.lm.torch_engine.cache import BlockPool, CacheShape
from services.lm.torch_engine.graphs import CudaCapture, DecodeGraphs
from services.lm.torch_engine.network import Network
from services.lm.torch_engine.parameters import Parameters


@dataclass(frozen=True)
class Span:
    """Tokens that follow what `cache` holds, at least one.

    Attributes:
        wanted: whether the logits after the last token are.
    """

    cache: KVCache
    tokens: Sequence[int]
    wanted: bool = True


class Runner:
    """Owns the network and the memory for keys and values.

    Args:
        kv_tokens: positions that fit into that memory, over all sessions.
        sessions: most sessions that decode at once; on CUDA, their steps are captured as graphs.
    """

    def __init__(self, parameters: Parameters, kv_tokens: int, sessions: int = 1) -> None:
        architecture = parameters.architecture
        self.device = parameters.device
        self.pool = BlockPool(CacheShape.of(architecture), kv_tokens, parameters.dtype, self.device)
        self._network = Network(parameters)
        self._heads = architecture.heads
        self._group = architecture.heads // architecture.kv_heads
        self._in_place = self.device.type == "cpu" and parameters.dtype == torch.float32
        self._graphs: DecodeGraphs | None = None
        # What a thread does on a GPU goes to its current one, which is the first unless told otherwise.
        self._current = torch.cuda.device(self.device) if self.device.type == "cuda" else contextlib.nullcontext()
        if self.device.type == "cuda":
            with self._current:
                capture = CudaCapture()
                self._graphs = DecodeGraphs(self._network, self.pool, sessions, architecture.context_length, capture)

    def cache(self) -> KVCache:
        """An empty cache for a session."""
        return KVCache(self.pool)

    @torch.inference_mode()
    def forward(self, spans: Sequence[Span]) -> torch.Tensor:
        """Computes the spans and adds them to their caches, which must have the blocks for them reserved.

        Returns the logits after each span that wants them, in their order: (wanted, vocabulary), float32.
        """
        caches = [span.cache for span in spans]
        decodes = all(len(span.tokens) == 1 and span.wanted for span in spans)
        if self._graphs is not None and decodes and self._graphs.fit(caches):
            with self._current:
                logits = self._graphs.run([span.tokens[0] for span in spans], caches)
        else:
            logits = self._eager(spans)
        for span in spans:
            span.cache.advance(len(span.tokens))
        return logits

    def _eager(self, spans: Sequence[Span]) -> torch.Tensor:
        # Single tokens come first, because they attend together.
        single = [i for i, span in enumerate(spans) if len(span.tokens) == 1]
        single.sort(key=lambda i: self._width(spans[i].cache))
        order = single + [i for i, span in enumerate(spans) if len(span.tokens) > 1]
        plans = self._decode_plans([spans[i].cache for i in single])
        ids: list[int] = []
        positions: list[int] = []
        blocks: list[int] = []
        ends = [0] * len(spans)
        for i in order:
            span = spans[i]
            count, past, held = len(span.tokens), span.cache.length, span.cache.blocks
            if count > 1:
                plans.append((count, ChunkPlan(self.pool, span.cache, count, self._group)))
            ids += span.tokens
            positions += range(past, past + count)
            blocks += [held[position // BLOCK_TOKENS] for position in range(past, past + count)]
            ends[i] = len(ids) - 1
        at = torch.tensor([ids, positions, blocks], device=self.device)
        attend = StepAttention(self.pool, at[2], at[1] % BLOCK_TOKENS, plans)
        hidden = self._network.hidden(at[0], at[1], attend)
        last = [ends[i] for i, span in enumerate(spans) if span.wanted]
        return self._network.logits(hidden[torch.tensor(last, dtype=torch.long, device=self.device)])

    def _width(self, cache: KVCache) -> int:
        """Sessions of one width share a plan: where keys and values are copied side by side, padding must be small."""
        return 0 if self._in_place else (len(cache.blocks) - 1).bit_length()

    def _decode_plans(self, caches: Sequence[KVCache]) -> list[tuple[int, Plan]]:
        plans: list[tuple[int, Plan]] = []
        for _, group in groupby(caches, self._width):
            alike = list(group)
            plans.append(
                (len(alike), PoolPlan(self.pool, alike, self._heads) if self._in_place else self._padded(alike))
            )
        return plans

    def _padded(self, caches: Sequence[KVCache]) -> PaddedPlan:
        width = max(len(cache.blocks) for cache in caches)
        table = [cache.blocks + [0] * (width - len(cache.blocks)) for cache in caches]
        lengths = torch.tensor([cache.length + 1 for cache in caches], device=self.device)
        return PaddedPlan(self.pool, torch.tensor(table, device=self.device), lengths)
