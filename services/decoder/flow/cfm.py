"""Conditional flow matching: from noise to mel in a few Euler steps (Lipman et al. 2023; Mehta et al. 2023)."""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from services.decoder.config import CfmConfig, CfmParams
from services.decoder.flow.estimator import ConditionalDecoder


def time_steps(count: int, scheduler: str) -> list[float]:
    """count + 1 times from 0 to 1; the cosine schedule (1 - cos(pi/2 u)) takes small steps first."""
    steps = torch.linspace(0, 1, count + 1)
    if scheduler == "cosine":
        steps = 1 - torch.cos(steps * 0.5 * torch.pi)
    return [float(step) for step in steps]


class ConditionalCFM(nn.Module):
    """The estimator and how its flow is followed."""

    def __init__(self, config: CfmConfig) -> None:
        super().__init__()
        self.params: CfmParams = config.cfm_params
        self.estimator = ConditionalDecoder(config.estimator)

    def solve(
        self,
        noise: Tensor,
        mu: Tensor,
        speaker: Tensor,
        prompt: Tensor,
        *,
        steps: int,
        guidance: float,
        start: float = 0.0,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Follows the flow from `noise` (b, 80, frames) to a mel of the same shape.

        The flow is followed from time `start`, where x is `start` x mu and the rest noise. Guidance w over 0 moves
        along (1 + w) * v(conditions) - w * v(none); both in one batch.
        """
        x = self.begin(noise, mu, start)
        for now, after in pairwise(self.times(steps, start)):
            rows = (mu.shape[0],)
            x = self.step(
                x,
                mu,
                speaker,
                prompt,
                x.new_full(rows, now),
                x.new_full(rows, after - now),
                guidance=guidance,
                mask=mask,
            )
        return x

    def times(self, steps: int, start: float) -> list[float]:
        """The flow's time before the first and after each of `steps` steps; at `start` 1 there is nothing to do."""
        if start == 1:
            return [1.0]
        return [start + (1 - start) * time for time in time_steps(steps, self.params.t_scheduler)]

    def begin(self, noise: Tensor, mu: Tensor, start: float) -> Tensor:
        """x at time `start`."""
        return noise if start == 0 else start * mu + (1 - start) * noise

    def step(
        self,
        x: Tensor,
        mu: Tensor,
        speaker: Tensor,
        prompt: Tensor,
        now: Tensor,
        span: Tensor,
        *,
        guidance: float,
        mask: Tensor | None = None,
    ) -> Tensor:
        """One Euler step of each row from its own time `now` (b,) by `span` (b,); the rest as in `solve`."""
        if guidance > 0:
            doubled = (torch.cat([item, torch.zeros_like(item)]) for item in (mu, speaker, prompt))
            mu, speaker, prompt = doubled
            mask = None if mask is None else torch.cat([mask, mask])
            velocities = self.estimator(torch.cat([x, x]), mu, torch.cat([now, now]), speaker, prompt, mask)
            with_all, with_none = velocities.chunk(2)
            velocity = (1 + guidance) * with_all - guidance * with_none
        else:
            velocity = self.estimator(x, mu, now, speaker, prompt, mask)
        stepped: Tensor = x + span[:, None, None] * velocity
        return stepped

    def loss(self, target: Tensor, mu: Tensor, speaker: Tensor, prompt: Tensor, mask: Tensor) -> Tensor:
        """Mean squared error of the velocity at a random time; conditions are dropped at `training_cfg_rate`."""
        batch = target.shape[0]
        u = torch.rand(batch, device=target.device)
        t = 1 - torch.cos(u * 0.5 * math.pi) if self.params.t_scheduler == "cosine" else u
        noise = torch.randn_like(target)
        rest = 1 - self.params.sigma_min
        at = t[:, None, None]
        x = (1 - rest * at) * noise + at * target
        if self.params.training_cfg_rate > 0:
            keep = (torch.rand(batch, device=target.device) > self.params.training_cfg_rate).to(target.dtype)
            mu, prompt, speaker = mu * keep[:, None, None], prompt * keep[:, None, None], speaker * keep[:, None]
        velocity = self.estimator(x, mu, t, speaker, prompt, mask)
        error = ((velocity.float() - (target - rest * noise)) * mask).square().sum()
        mean: Tensor = error / (mask.sum() * target.shape[1])
        return mean
