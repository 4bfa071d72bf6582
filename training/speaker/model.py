"""A small x-vector network (Snyder et al. 2018): convolutions over time, mean and deviation, a vector."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from services.decoder.speaker import BINS

WIDTH = 192  # of the vector, as in the released decoder
_CHANNELS = 128
_SCALE, _MARGIN = 20.0, 0.15


class SpeakerNetwork(nn.Module):
    """Kaldi filter banks (batch, frames, 80), less their mean -> (batch, 192)."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs, kernel, dilation in (
            (BINS, _CHANNELS, 5, 1),
            (_CHANNELS, _CHANNELS, 3, 2),
            (_CHANNELS, _CHANNELS, 3, 3),
            (_CHANNELS, 2 * _CHANNELS, 1, 1),
        ):
            layers += [nn.Conv1d(inputs, outputs, kernel, dilation=dilation), nn.ReLU(), nn.BatchNorm1d(outputs)]
        self.frames = nn.Sequential(*layers)
        self.vector = nn.Linear(4 * _CHANNELS, WIDTH)

    def forward(self, features: Tensor) -> Tensor:
        x = self.frames(features.transpose(1, 2))
        mean = x.mean(2)
        deviation = torch.sqrt((x - mean[:, :, None]).square().mean(2) + 1e-5)
        out: Tensor = self.vector(torch.cat([mean, deviation], 1))
        return out


class Identification(nn.Module):
    """Whose voice is it? Additive-margin softmax (Wang et al. 2018), so that vectors of one speaker lie close."""

    def __init__(self, speakers: int) -> None:
        super().__init__()
        self.directions = nn.Parameter(torch.randn(speakers, WIDTH))

    def loss(self, vectors: Tensor, speakers: Tensor) -> Tensor:
        """Of vectors (batch, 192) and their speakers' numbers (batch)."""
        cosine = F.normalize(vectors.float(), dim=1) @ F.normalize(self.directions, dim=1).T
        margin = F.one_hot(speakers, cosine.shape[1]) * _MARGIN
        return F.cross_entropy(_SCALE * (cosine - margin), speakers)
