"""The token encoder: pre-norm transformer with relative positions and block-causal attention.

Relative positions as in Transformer-XL (Dai et al. 2019, appendix B) with espnet's table of positive and negative
offsets. Parameter names are those of the released checkpoint.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from services.decoder.config import EncoderConfig


def relative_positions(length: int, width: int, like: Tensor) -> Tensor:
    """Sinusoids of the offsets length-1 .. -(length-1): (2 * length - 1, width)."""
    offsets = torch.arange(length - 1, -length, -1, device=like.device, dtype=torch.float32)[:, None]
    even = torch.arange(0, width, 2, device=like.device, dtype=torch.float32)
    angles = offsets * torch.exp(even * -(math.log(10000.0) / width))
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1).to(like.dtype)


def block_causal_mask(length: int, block: int, device: torch.device) -> Tensor:
    """(length, length), true where a query (row) may see a key: its own block and everything before it."""
    index = torch.arange(length, device=device) // block
    return index[None, :] <= index[:, None]


def _shift(scores: Tensor) -> Tensor:
    """(b, h, t, 2t-1) over offsets -> (b, h, t, t) over keys: row i keeps the offsets i .. i-t+1."""
    batch, heads, length, offsets = scores.shape
    padded = F.pad(scores, (1, 0)).view(batch, heads, offsets + 1, length)
    return padded[:, :, 1:].reshape(batch, heads, length, offsets)[..., :length]


class RelativeAttention(nn.Module):
    """Multi-head self-attention with relative positions."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.linear_q = nn.Linear(width, width)
        self.linear_k = nn.Linear(width, width)
        self.linear_v = nn.Linear(width, width)
        self.linear_out = nn.Linear(width, width)
        self.linear_pos = nn.Linear(width, width, bias=False)
        self.pos_bias_u = nn.Parameter(torch.zeros(heads, width // heads))
        self.pos_bias_v = nn.Parameter(torch.zeros(heads, width // heads))

    def forward(self, x: Tensor, positions: Tensor, allowed: Tensor) -> Tensor:
        """x (b, t, d), positions (2t-1, d), allowed (b or 1, 1, t, t) bool -> (b, t, d)."""
        batch, length, width = x.shape
        split = (batch, length, self.heads, width // self.heads)
        query = self.linear_q(x).view(split)
        key = self.linear_k(x).view(split).permute(0, 2, 3, 1)
        value = self.linear_v(x).view(split).transpose(1, 2)
        offsets = self.linear_pos(positions).view(-1, self.heads, width // self.heads).permute(1, 2, 0)
        content = (query + self.pos_bias_u).transpose(1, 2) @ key
        place = _shift((query + self.pos_bias_v).transpose(1, 2) @ offsets)
        scores = (content + place) / math.sqrt(width // self.heads)
        weights = scores.masked_fill(~allowed, float("-inf")).softmax(dim=-1)
        out: Tensor = self.linear_out((weights @ value).transpose(1, 2).reshape(batch, length, width))
        return out


class FeedForward(nn.Module):
    """Two linear layers with SiLU between."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.w_1 = nn.Linear(width, hidden)
        self.w_2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """(b, t, d) -> (b, t, d)."""
        out: Tensor = self.w_2(F.silu(self.w_1(x)))
        return out


class EncoderLayer(nn.Module):
    """Pre-norm attention and feed-forward, each with its residual."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.self_attn = RelativeAttention(width, heads)
        self.feed_forward = FeedForward(width, hidden)
        self.norm_ff = nn.LayerNorm(width, eps=1e-5)
        self.norm_mha = nn.LayerNorm(width, eps=1e-5)

    def forward(self, x: Tensor, positions: Tensor, allowed: Tensor) -> Tensor:
        """(b, t, d) -> (b, t, d)."""
        x = x + self.self_attn(self.norm_mha(x), positions, allowed)
        out: Tensor = x + self.feed_forward(self.norm_ff(x))
        return out


class _InputLayer(nn.Module):
    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.out = nn.Sequential(nn.Linear(inputs, width), nn.LayerNorm(width, eps=1e-5))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.out(x)
        return out


class BlockConformerEncoder(nn.Module):
    """Embedded tokens to hidden states; position i sees its own block of tokens and all before."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.block_size = config.block_size
        self.width = config.output_size
        self.embed = _InputLayer(config.input_size, config.output_size)
        self.after_norm = nn.LayerNorm(config.output_size, eps=1e-5)
        self.encoders = nn.ModuleList(
            EncoderLayer(config.output_size, config.attention_heads, config.linear_units)
            for _ in range(config.num_blocks)
        )

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """x (b, t, input_size), lengths (b,) when sequences are padded -> (b, t, output_size)."""
        length = x.shape[1]
        x = self.embed(x) * math.sqrt(self.width)
        positions = relative_positions(length, self.width, x)
        allowed = block_causal_mask(length, self.block_size, x.device)[None, None]
        if lengths is not None:
            there = torch.arange(length, device=x.device)[None] < lengths[:, None]
            allowed = allowed & there[:, None, None]
        for layer in self.encoders:
            x = layer(x, positions, allowed)
        out: Tensor = self.after_norm(x)
        return out
