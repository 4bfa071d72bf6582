"""GLM's architecture, written for fast training on a CPU; exported into the released format (export.py).

Differences that do not change the function: rotary pairs are (i, i + 16) instead of (2i, 2i + 1), which is a fixed
permutation of query and key rows; and a prefix common to all rows of a batch (the system prompt) is computed once.
"""

import math
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class LMConfig:
    vocabulary: int
    hidden: int = 256
    layers: int = 6
    heads: int = 4
    groups: int = 2
    head_dim: int = 64
    ffn: int = 704
    epsilon: float = 1.5625e-07
    ctc_layer: int = 3
    ctc_classes: int = 0  # text ids and a blank; the head is dropped after training

    def to_dict(self) -> dict[str, float]:
        return asdict(self)


def rotary_table(positions: Tensor, head_dim: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines (..., head_dim / 4) of the rotated half of each head."""
    rotated = head_dim // 2
    frequencies = torch.exp(-math.log(10_000.0) * torch.arange(0, rotated, 2) / rotated)
    angles = positions.float()[..., None] * frequencies
    return angles.cos(), angles.sin()


def rotate(x: Tensor, table: tuple[Tensor, Tensor]) -> Tensor:
    """Rotary embedding of the first half of each head; x (tokens, heads, head_dim), table (tokens, head_dim / 4)."""
    cos, sin = (part[:, None, :].to(x.dtype) for part in table)
    quarter = x.shape[-1] // 4
    first, second, rest = x[..., :quarter], x[..., quarter : 2 * quarter], x[..., 2 * quarter :]
    return torch.cat([first * cos - second * sin, second * cos + first * sin, rest], -1)


def _softmax_rows(parts: list[Tensor]) -> list[Tensor]:
    """Softmax over the last axis of several score blocks taken together."""
    weights = torch.cat(parts, -1).softmax(-1)
    return list(torch.split(weights, [part.shape[-1] for part in parts], -1))


class Layer(nn.Module):
    def __init__(self, config: LMConfig) -> None:
        super().__init__()
        self.config = config
        attention, shared = config.heads * config.head_dim, config.groups * config.head_dim
        self.attention_norm = nn.RMSNorm(config.hidden, config.epsilon)
        self.mlp_norm = nn.RMSNorm(config.hidden, config.epsilon)
        self.qkv = nn.Linear(config.hidden, attention + 2 * shared)
        self.out = nn.Linear(attention, config.hidden, bias=False)
        self.gate_up = nn.Linear(config.hidden, 2 * config.ffn, bias=False)
        self.down = nn.Linear(config.ffn, config.hidden, bias=False)
        for weight in (self.qkv.weight, self.gate_up.weight):
            nn.init.normal_(weight, std=0.04)
        for weight in (self.out.weight, self.down.weight):
            nn.init.normal_(weight, std=0.02 / math.sqrt(2 * config.layers))
        nn.init.zeros_(self.qkv.bias)

    def _grouped(self, x: Tensor, rows: int) -> Tensor:
        """(rows x time, heads, d) -> (rows, groups, heads / groups x time, d)."""
        per_group = x.shape[1] // self.config.groups
        x = x.view(rows, -1, self.config.groups, per_group, self.config.head_dim)
        return x.permute(0, 2, 3, 1, 4).flatten(2, 3)

    def _ungrouped(self, x: Tensor, time: int) -> Tensor:
        """The reverse, as (rows x time, heads x d)."""
        per_group = self.config.heads // self.config.groups
        x = x.view(x.shape[0], self.config.groups, per_group, time, self.config.head_dim)
        return x.permute(0, 3, 1, 2, 4).flatten(2).flatten(0, 1)

    def forward(self, x: Tensor, prefix: int, rows: int, table: tuple[Tensor, Tensor], mask: Tensor) -> Tensor:
        """One layer over (prefix + rows x time, hidden): the prefix first, then all rows' tokens.

        `mask` (1, 1, time, time) holds 0 or a large negative number and is causal.
        """
        c = self.config
        sizes = [c.heads * c.head_dim, c.groups * c.head_dim, c.groups * c.head_dim]
        q, k, v = self.qkv(self.attention_norm(x)).split(sizes, -1)
        q = rotate(q.unflatten(-1, (c.heads, -1)), table) * c.head_dim**-0.5
        k = rotate(k.unflatten(-1, (c.groups, -1)), table)
        v = v.unflatten(-1, (c.groups, -1))
        per_group = c.heads // c.groups
        time = (x.shape[0] - prefix) // rows
        pq, pk, pv = (self._grouped(part[:prefix], 1) for part in (q, k, v))
        cq, ck, cv = (self._grouped(part[prefix:], rows) for part in (q, k, v))
        causal = torch.full((prefix, prefix), -1e4, dtype=q.dtype).triu(1).repeat(per_group, 1)
        heard = (pq @ pk.transpose(2, 3) + causal).softmax(-1).to(pv.dtype) @ pv
        # All rows look at the one prefix: fold rows into the query axis, so that it is one product per group.
        folded = cq.transpose(0, 1).flatten(1, 2)
        to_prefix = (folded @ pk[0].transpose(1, 2)).view(c.groups, rows, -1, prefix).transpose(0, 1)
        among = cq @ ck.transpose(2, 3) + mask.repeat(1, 1, per_group, 1)
        weights = _softmax_rows([to_prefix, among])
        weights = [part.to(cv.dtype) for part in weights]
        from_prefix = weights[0].transpose(0, 1).flatten(1, 2) @ pv[0]
        answer = from_prefix.view(c.groups, rows, -1, c.head_dim).transpose(0, 1) + weights[1] @ cv
        merged = torch.cat([self._ungrouped(heard, prefix), self._ungrouped(answer, time)])
        x = x + self.out(merged)
        gate, up = self.gate_up(self.mlp_norm(x)).chunk(2, -1)
        out: Tensor = x + self.down(F.silu(gate) * up)
        return out


class LanguageModel(nn.Module):
    def __init__(self, config: LMConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocabulary, config.hidden)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))
        self.norm = nn.RMSNorm(config.hidden, config.epsilon)
        self.head = nn.Linear(config.hidden, config.vocabulary, bias=False)
        self.ctc_norm = nn.RMSNorm(config.hidden)
        self.ctc = nn.Linear(config.hidden, max(1, config.ctc_classes))
        nn.init.normal_(self.embedding.weight, std=0.02)
        nn.init.normal_(self.head.weight, std=0.02)

    @torch.no_grad()
    def start_speech_from(self, codebook: Tensor, offset: int, seed: int) -> None:
        """Speech embeddings from the codebook's principal components, in random directions: near codes start near."""
        centred = codebook - codebook.mean(0)
        _, _, components = torch.linalg.svd(centred, full_matrices=False)
        projected = centred @ components[: self.config.hidden].T
        generator = torch.Generator().manual_seed(seed)
        turn = torch.linalg.qr(torch.randn(self.config.hidden, self.config.hidden, generator=generator))[0]
        self.embedding.weight[offset : offset + len(codebook)] = projected / projected.std() * 0.02 @ turn

    def forward(
        self, prefix: Tensor, tokens: Tensor, positions: Tensor, wanted: Tensor, heard: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Logits after the wanted tokens, and CTC logits of the heard ones.

        Args:
            prefix: (p) ids before every row, at positions 0..p-1.
            tokens: (rows, time) ids; padding at the end.
            positions: (rows, time), increasing.
            wanted: (rows, time) true where the next id is learnt.
            heard: (utterances, frames) indices into the flattened tokens.

        Returns:
            (wanted, vocabulary), and (utterances, frames, ctc classes).
        """
        rows, time = tokens.shape
        p = len(prefix)
        x = self.embedding(torch.cat([prefix, tokens.flatten()]))
        table = rotary_table(torch.cat([torch.arange(p), positions.flatten()]), self.config.head_dim)
        mask = torch.full((1, 1, time, time), -1e4, dtype=torch.bfloat16).triu(1)
        ctc = None
        for number, layer in enumerate(self.layers, 1):
            x = layer(x, p, rows, table, mask)
            if number == self.config.ctc_layer and heard is not None:
                ctc = self.ctc(self.ctc_norm(x[p:][heard]))
        return self.head(self.norm(x[p:][wanted.flatten()])), ctc
