"""Building blocks of the vocoder; parameter names as released, with weight normalisation folded in by the loader."""

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

    def forward(self, x: Tensor) -> Tensor:
        """(b, c, t) -> the same shape."""
        pairs = zip(self.activations1, self.convs1, self.activations2, self.convs2, strict=True)
        for first, dilated, second, plain in pairs:
            x = x + plain(second(dilated(first(x))))
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

    def forward(self, mel: Tensor) -> Tensor:
        """(b, 80, frames) -> (b, frames)."""
        return torch.abs(self.classifier(self.condnet(mel).transpose(1, 2))[..., 0])


def overlap_add(frames: Tensor, hop: int) -> Tensor:
    """(b, n, size) frames, hop apart -> (b, (n - 1) * hop + size)."""
    batch, count, size = frames.shape
    length = (count - 1) * hop + size
    return F.fold(frames.transpose(1, 2), (1, length), (1, size), stride=(1, hop)).view(batch, length)
