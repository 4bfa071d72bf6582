"""From the token rate to the mel rate: nearest interpolation, then a few convolutions."""

import torch
from torch import Tensor, nn

from services.decoder.config import RegulatorConfig
from services.decoder.flow.norm import GroupNorm


class InterpolateRegulator(nn.Module):
    """Stretches encoder states over mel frames; parameter names as released (`model.N`)."""

    def __init__(self, config: RegulatorConfig) -> None:
        super().__init__()
        channels = config.channels
        self.model = nn.ModuleList()
        for _ in config.sampling_ratios:
            self.model += [nn.Conv1d(channels, channels, 3, padding=1), GroupNorm(1, channels), nn.Mish()]
        self.model.append(nn.Conv1d(channels, channels, 1))

    def forward(
        self, x: Tensor, frames: int, lengths: Tensor | None = None, frame_mask: Tensor | None = None
    ) -> Tensor:
        """x (b, t, c) -> (b, c, frames).

        `lengths` (b,) are the token counts and `frame_mask` (b, 1, frames) the frames of each sequence when padded.
        """
        tokens = torch.full((x.shape[0],), x.shape[1], device=x.device) if lengths is None else lengths
        wanted = torch.full_like(tokens, frames) if frame_mask is None else frame_mask.sum(dim=(1, 2)).long()
        # the same single-precision product as F.interpolate(mode="nearest"), per sequence
        scale = tokens.float() / wanted.float()
        index = (torch.arange(frames, device=x.device).float()[None] * scale[:, None]).long()
        index = torch.minimum(index, tokens[:, None] - 1)
        x = x.gather(1, index[:, :, None].expand(-1, -1, x.shape[2])).transpose(1, 2)
        for layer in self.model:
            if isinstance(layer, nn.Conv1d) and frame_mask is not None:
                x = x * frame_mask
            x = layer(x, frame_mask) if isinstance(layer, GroupNorm) else layer(x)
        return x if frame_mask is None else x * frame_mask
