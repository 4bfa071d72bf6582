"""Building blocks of the vocoder; parameter names as released, with weight normalisation folded in by the loader."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from services.decoder.config import F0Config


class Snake(nn.Module):
    """x + sin^2(a x) / a, one a per channel (Liu et al. 2020)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(b, c, t) -> the same shape."""
        alpha = self.alpha[:, None]
        return x + torch.sin(alpha * x).square() / (alpha + 1e-9)


def _same(channels: int, kernel: int, dilation: int) -> nn.Conv1d:
    return nn.Conv1d(channels, channels, kernel, dilation=dilation, padding=dilation * (kernel - 1) // 2)


class ResBlock(nn.Module):
    """Residual pairs of a dilated and a plain convolution (HiFi-GAN's, with Snake)."""

    def __init__(self, channels: int, kernel: int, dilations: tuple[int, ...]) -> None:
        super().__init__()
        self.convs1 = nn.ModuleList(_same(channels, kernel, dilation) for dilation in dilations)
        self.convs2 = nn.ModuleList(_same(channels, kernel, 1) for _ in dilations)
        self.activations1 = nn.ModuleList(Snake(channels) for _ in dilations)
        self.activations2 = nn.ModuleList(Snake(channels) for _ in dilations)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """x (b, c, t), zero where `mask` (b, 1, t) is -> the same."""
        pairs = zip(self.activations1, self.convs1, self.activations2, self.convs2, strict=True)
        for first, dilated, second, plain in pairs:
            hidden = masked(dilated(first(x)), mask)  # Snake of zero is zero
            x = x + masked(plain(second(hidden)), mask)
        return x


class F0Predictor(nn.Module):
    """Five convolutions and a linear layer: mel to F0 in hertz, near 0 where unvoiced."""

    def __init__(self, config: F0Config) -> None:
        super().__init__()
        self.condnet = nn.Sequential()
        inputs = config.in_channels
        for _ in range(5):
            self.condnet.append(nn.Conv1d(inputs, config.cond_channels, 3, padding=1))
            self.condnet.append(nn.ELU())
            inputs = config.cond_channels
        self.classifier = nn.Linear(config.cond_channels, 1)

    def forward(self, mel: Tensor, mask: Tensor | None = None) -> Tensor:
        """mel (b, 80, frames), mask (b, 1, frames) when sequences are padded -> (b, frames)."""
        x = masked(mel, mask)
        for layer in self.condnet:
            x = masked(layer(x), mask)
        return torch.abs(self.classifier(x.transpose(1, 2))[..., 0])


def masked(x: Tensor, mask: Tensor | None) -> Tensor:
    """`x`, zero in the padding: a convolution then sees there what it sees at the end of a sequence alone."""
    return x if mask is None else x * mask


def length_mask(lengths: Sequence[int], like: Tensor) -> Tensor | None:
    """(b, 1, longest), 1 within each length; none when all are equal, which is quicker."""
    if len(set(lengths)) == 1:
        return None
    there = torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]
    return there[:, None].to(like)


def overlap_add(frames: Tensor, hop: int) -> Tensor:
    """(b, n, size) frames, hop apart -> (b, (n - 1) * hop + size)."""
    batch, count, size = frames.shape
    length = (count - 1) * hop + size
    return F.fold(frames.transpose(1, 2), (1, length), (1, size), stride=(1, hop)).view(batch, length)
