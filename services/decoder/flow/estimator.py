"""The velocity estimator of the flow: a 1-D U-Net of residual convolutions and transformer blocks.

Design of Matcha-TTS (Mehta et al. 2023) as CosyVoice uses it; parameter names are those of the released checkpoint.
"""

import math
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from services.decoder.config import EstimatorConfig
from services.decoder.flow.norm import GroupNorm


class TimeEmbedding(nn.Module):
    """Two linear layers over sinusoids of the flow's time."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.inputs = inputs
        self.linear_1 = nn.Linear(inputs, width)
        self.linear_2 = nn.Linear(width, width)

    def forward(self, t: Tensor) -> Tensor:
        """t (b,) in 0..1 -> (b, width)."""
        half = self.inputs // 2
        rates = torch.exp(torch.arange(half, device=t.device).float() * -(math.log(10000) / (half - 1)))
        angles = 1000 * t[:, None].float() * rates[None]
        waves = torch.cat([angles.sin(), angles.cos()], dim=-1).to(self.linear_1.weight.dtype)
        out: Tensor = self.linear_2(F.silu(self.linear_1(waves)))
        return out


class ConvBlock(nn.Module):
    """Convolution of 3, group normalisation, Mish."""

    def __init__(self, inputs: int, outputs: int, groups: int = 8) -> None:
        super().__init__()
        self.block = nn.ModuleList([nn.Conv1d(inputs, outputs, 3, padding=1), GroupNorm(groups, outputs)])

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """(b, c, t) -> (b, outputs, t)."""
        x = F.mish(self.block[1](self.block[0](_masked(x, mask)), mask))
        return _masked(x, mask)


class ResnetBlock(nn.Module):
    """Two convolution blocks with the time added between, and a residual."""

    def __init__(self, inputs: int, outputs: int, time_width: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Mish(), nn.Linear(time_width, outputs))
        self.block1 = ConvBlock(inputs, outputs)
        self.block2 = ConvBlock(outputs, outputs)
        self.res_conv = nn.Conv1d(inputs, outputs, 1)

    def forward(self, x: Tensor, mask: Tensor | None, time: Tensor) -> Tensor:
        """(b, c, t) -> (b, outputs, t)."""
        hidden = self.block1(x, mask) + self.mlp(time)[:, :, None]
        out: Tensor = self.block2(hidden, mask) + self.res_conv(_masked(x, mask))
        return out


class Attention(nn.Module):
    """Multi-head self-attention; queries, keys and values without bias."""

    def __init__(self, width: int, heads: int, head_width: int) -> None:
        super().__init__()
        inner = heads * head_width
        self.heads = heads
        self.to_q = nn.Linear(width, inner, bias=False)
        self.to_k = nn.Linear(width, inner, bias=False)
        self.to_v = nn.Linear(width, inner, bias=False)
        self.to_out = nn.ModuleList([nn.Linear(inner, width)])

    def forward(self, x: Tensor, allowed: Tensor | None) -> Tensor:
        """x (b, t, d), allowed (b, 1, 1, t) bool or none -> (b, t, d)."""
        batch, length, _ = x.shape
        query, key, value = (
            layer(x).view(batch, length, self.heads, -1).transpose(1, 2) for layer in (self.to_q, self.to_k, self.to_v)
        )
        if self.training:  # on a CPU the fused kernel's backward pass is slower than this
            scores = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])
            if allowed is not None:
                scores = scores.masked_fill(~allowed, float("-inf"))
            out = scores.softmax(dim=-1) @ value
        else:
            out = F.scaled_dot_product_attention(query, key, value, attn_mask=allowed)
        joined: Tensor = self.to_out[0](out.transpose(1, 2).reshape(batch, length, -1))
        return joined


class _GeluProjection(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.proj = nn.Linear(width, hidden)

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(self.proj(x))


class FeedForward(nn.Module):
    """GELU projection to four times the width and back; `net.1` is a dropout in training code, empty here."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = nn.Sequential(_GeluProjection(width, 4 * width), nn.Identity(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        """(b, t, d) -> (b, t, d)."""
        out: Tensor = self.net(x)
        return out


class TransformerBlock(nn.Module):
    """Pre-norm self-attention and feed-forward (`norm2` belongs to cross-attention, which is not used)."""

    def __init__(self, width: int, heads: int, head_width: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn1 = Attention(width, heads, head_width)
        self.norm3 = nn.LayerNorm(width)
        self.ff = FeedForward(width)

    def forward(self, x: Tensor, allowed: Tensor | None) -> Tensor:
        """(b, t, d) -> (b, t, d)."""
        x = x + self.attn1(self.norm1(x), allowed)
        out: Tensor = x + self.ff(self.norm3(x))
        return out


class _Downsample(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(width, width, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x)
        return out


class _Upsample(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose1d(width, width, 4, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x)
        return out


class ConditionalDecoder(nn.Module):
    """The U-Net. Its input is [x, mu, speaker, prompt mel], its output the velocity of x."""

    def __init__(self, config: EstimatorConfig) -> None:
        super().__init__()
        time_width = 4 * config.channels[0]
        self.time_mlp = TimeEmbedding(config.in_channels, time_width)

        def blocks(width: int) -> nn.ModuleList:
            heads, head_width = config.num_heads, config.attention_head_dim
            return nn.ModuleList(TransformerBlock(width, heads, head_width) for _ in range(config.n_blocks))

        def resnet(inputs: int, outputs: int) -> ResnetBlock:
            return ResnetBlock(inputs, outputs, time_width)

        def plain(width: int) -> nn.Conv1d:
            return nn.Conv1d(width, width, 3, padding=1)

        self.down_blocks = nn.ModuleList()
        inputs, last = config.in_channels, len(config.channels) - 1
        for level, width in enumerate(config.channels):
            change: nn.Module = plain(width) if level == last else _Downsample(width)
            self.down_blocks.append(nn.ModuleList([resnet(inputs, width), blocks(width), change]))
            inputs = width
        self.mid_blocks = nn.ModuleList(
            nn.ModuleList([resnet(inputs, inputs), blocks(inputs)]) for _ in range(config.num_mid_blocks)
        )
        self.up_blocks = nn.ModuleList()
        upwards = [*config.channels[::-1], config.channels[0]]
        for level, (here, width) in enumerate(pairwise(upwards)):
            change = plain(width) if level == last else _Upsample(width)
            self.up_blocks.append(nn.ModuleList([resnet(2 * here, width), blocks(width), change]))
        self.final_block = ConvBlock(config.channels[0], config.channels[0])
        self.final_proj = nn.Conv1d(config.channels[0], config.out_channels, 1)

    def forward(self, x: Tensor, mu: Tensor, t: Tensor, speaker: Tensor, prompt: Tensor, mask: Tensor | None) -> Tensor:
        """Velocity at x.

        Args:
            x, mu, prompt: (b, 80, frames). t: (b,) in 0..1. speaker: (b, 80).
            mask: (b, 1, frames) of 0 and 1 when sequences are padded, else none.
        """
        time = self.time_mlp(t)
        x = torch.cat([x, mu, speaker[:, :, None].expand(-1, -1, x.shape[2]), prompt], dim=1)
        masks, skips = [mask], []
        level_modules: Any  # (resnet, transformer blocks, change of rate); a ModuleList does not know
        for level_modules in self.down_blocks:
            resnet, blocks, change = level_modules
            x = _attend(blocks, resnet(x, masks[-1], time), masks[-1])
            skips.append(x)
            x = change(_masked(x, masks[-1]))
            masks.append(None if masks[-1] is None else masks[-1][:, :, ::2])
        masks.pop()  # the lowest level changes no rate
        for level_modules in self.mid_blocks:
            resnet, blocks = level_modules
            x = _attend(blocks, resnet(x, masks[-1], time), masks[-1])
        for level_modules in self.up_blocks:
            resnet, blocks, change = level_modules
            level, skip = masks.pop(), skips.pop()
            x = torch.cat([x[:, :, : skip.shape[2]], skip], dim=1)
            x = _attend(blocks, resnet(x, level, time), level)
            x = change(_masked(x, level))
        x = self.final_proj(_masked(self.final_block(x, mask), mask))
        return _masked(x, mask)


def _masked(x: Tensor, mask: Tensor | None) -> Tensor:
    return x if mask is None else x * mask


def _attend(blocks: nn.ModuleList, x: Tensor, mask: Tensor | None) -> Tensor:
    allowed = None if mask is None else mask[:, :, None].bool()
    x = x.transpose(1, 2)
    for block in blocks:
        x = block(x, allowed)
    return x.transpose(1, 2)
