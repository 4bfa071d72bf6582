"""Decoding steps captured as CUDA graphs: one launch instead of hundreds, which is most of a small batch's time.

A graph has fixed shapes, so a step is padded to the next number of sessions and width of the block table that was
captured. Padding rows belong to nobody: they write to the pool's block 0 and their logits are dropped.
"""

from collections.abc import Callable, Sequence

import torch

from services.lm.torch_engine.attention import PaddedPlan, StepAttention
from services.lm.torch_engine.blocks import BLOCK_TOKENS, KVCache, blocks_for
from services.lm.torch_engine.cache import BlockPool
from services.lm.torch_engine.network import Network

# Runs what was captured, and gives the same output tensor each time.
Replay = Callable[[], torch.Tensor]
Capture = Callable[[Callable[[], torch.Tensor]], Replay]

_NARROWEST = 8
# Sessions times columns: bounds the memory and the time that padding costs when one session is much longer than others.
_MOST_BLOCKS = 4096
_WARM_UPS = 2


class DecodeGraphs:
    """Graphs of a decoding step for 1, 2, 4 ... sessions and block tables of 8, 16, 32 ... columns.

    All are captured here, so that no call waits for it; they share the memory of their intermediate results.

    Args:
        sessions: the largest step.
        context_length: of the longest session, tokens.
        capture: makes a graph of a function that reads and writes fixed tensors.
    """

    def __init__(self, network: Network, pool: BlockPool, sessions: int, context_length: int, capture: Capture) -> None:
        self._network = network
        self._pool = pool
        self._counts = _doubling(1, sessions)
        self._widths = _doubling(_NARROWEST, blocks_for(context_length))
        count, width = self._counts[-1], self._widths[-1]
        device = pool.data.device
        # Rows of `at`: ids, positions, blocks, offsets.
        self._at = torch.zeros(4, count, dtype=torch.long, device=device)
        self._tables = torch.zeros(count, width, dtype=torch.long, device=device)
        # The largest first: the smaller ones then fit into its memory.
        self._graphs = {
            (c, w): capture(self._step(c, w))
            for c in reversed(self._counts)
            for w in reversed(self._widths)
            if c * w <= _MOST_BLOCKS
        }

    def fit(self, caches: Sequence[KVCache]) -> bool:
        """Whether a step of these sessions was captured."""
        return self._key(caches) in self._graphs

    def run(self, tokens: Sequence[int], caches: Sequence[KVCache]) -> torch.Tensor:
        """One token of each session, whose block is reserved. Returns (sessions, vocabulary) logits, float32.

        They are overwritten by the next step.
        """
        sessions = len(caches)
        count, width = self._key(caches)
        padding = [0] * (count - sessions)
        past = [cache.length for cache in caches]
        blocks = [cache.blocks[length // BLOCK_TOKENS] for cache, length in zip(caches, past, strict=True)]
        offsets = [length % BLOCK_TOKENS for length in past]
        rows = [list(row) + padding for row in (tokens, past, blocks, offsets)]
        table = [cache.blocks + [0] * (width - len(cache.blocks)) for cache in caches]
        self._at[:, :count].copy_(torch.tensor(rows))
        self._tables[:sessions, :width].copy_(torch.tensor(table))
        return self._graphs[count, width]()[:sessions]

    def _key(self, caches: Sequence[KVCache]) -> tuple[int, int]:
        widest = max(len(cache.blocks) for cache in caches)
        return _doubling(1, len(caches))[-1], _doubling(_NARROWEST, widest)[-1]

    def _step(self, count: int, width: int) -> Callable[[], torch.Tensor]:
        ids, positions, blocks, offsets = self._at[:, :count]
        table = self._tables[:count, :width]

        @torch.inference_mode()
        def step() -> torch.Tensor:
            plan = PaddedPlan(self._pool, table, positions + 1)
            attend = StepAttention(self._pool, blocks, offsets, [(count, plan)])
            return self._network.logits(self._network.hidden(ids, positions, attend))

        return step


class CudaCapture:
    """Captures functions as CUDA graphs that share one pool of memory."""

    def __init__(self) -> None:
        self._memory = torch.cuda.graph_pool_handle()

    def __call__(self, function: Callable[[], torch.Tensor]) -> Replay:
        """Runs `function` to warm up, then captures it; see `Capture`."""
        # What a first call sets up (handles, workspaces) must not be captured, hence the stream of its own.
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UPS):
                function()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._memory):
            out = function()

        def replay() -> torch.Tensor:
            graph.replay()
            return out

        return replay


def _doubling(first: int, last: int) -> list[int]:
    """`first`, twice that, and so on, up to the first that is not below `last`."""
    numbers = [first]
    while numbers[-1] < last:
        numbers.append(2 * numbers[-1])
    return numbers
