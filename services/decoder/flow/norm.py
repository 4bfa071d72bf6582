"""Group normalisation that a padded batch does not change."""

import torch
from torch import Tensor, nn


class GroupNorm(nn.GroupNorm):
    """`nn.GroupNorm` over (b, c, t) whose statistics leave padded frames out, so that each sequence of a padded batch
    gets what it would get alone."""

    def forward(self, input: Tensor, mask: Tensor | None = None) -> Tensor:
        """(b, c, t), mask (b, 1, t) of 0 and 1 or none -> (b, c, t)."""
        if mask is None:
            return super().forward(input)
        batch, channels, length = input.shape
        grouped = input.float().view(batch, self.num_groups, channels // self.num_groups, length)
        there = mask[:, None].float()
        count = there.sum(dim=(2, 3), keepdim=True) * grouped.shape[2]
        mean = (grouped * there).sum(dim=(2, 3), keepdim=True) / count
        centred = (grouped - mean) * there
        variance = centred.square().sum(dim=(2, 3), keepdim=True) / count
        normal = (centred * torch.rsqrt(variance + self.eps)).view(batch, channels, length)
        return (normal * self.weight[:, None] + self.bias[:, None]).to(input.dtype)
