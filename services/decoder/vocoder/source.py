"""The vocoder's excitation, whose phase goes on from block to block.

The reference starts every block at a new random phase, which clicks at each join. Here the phase of the fundamental is
carried in cycles at the frame boundary, the harmonics' starting phases are drawn once per utterance, and the noise is
indexed by position; so the source does not depend on where blocks are cut.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from services.decoder.config import HiftConfig
from services.decoder.noise import PositionalNoise


class SourceState:
    """What the source of one utterance remembers between blocks."""

    def __init__(self, seed: int, hop: int, harmonics: int) -> None:
        self.frame = 0
        self.cycles = 0.0
        self.noise = PositionalNoise(seed, "source", (hop,))
        phases = PositionalNoise(seed, "phase", (harmonics,)).frames(0, 1)[0]
        self.phases = (phases % 1.0).double()
        self.phases[:1] = 0.0  # the fundamental's; its phase is `cycles`

    def advance(self, f0: Tensor, hop: int, rate: int) -> None:
        """Moves on by the frames of f0 (frames,)."""
        self.frame += len(f0)
        self.cycles = (self.cycles + float(f0.double().sum()) * hop / rate) % 1.0


def _cycles(f0: Tensor, states: Sequence[SourceState], hop: int, rate: int) -> Tensor:
    """Phase of the fundamental at each sample, in cycles: (b, frames * hop), double."""
    start = torch.tensor([state.cycles for state in states], dtype=torch.float64, device=f0.device)
    steps = (f0.double() / rate).repeat_interleave(hop, 1)
    return start[:, None] + steps.cumsum(1)


def _noise(f0: Tensor, states: Sequence[SourceState]) -> Tensor:
    """(b, frames * hop)."""
    rows = [state.noise.frames(state.frame, state.frame + f0.shape[1]).flatten() for state in states]
    return torch.stack(rows).to(f0.device)


class NsfSource(nn.Module):
    """The released source: harmonics of F0 plus noise, merged by one linear layer and tanh (Wang et al. 2019)."""

    channels = 1

    def __init__(self, config: HiftConfig, hop: int) -> None:
        super().__init__()
        self.harmonics = config.nb_harmonics + 1
        self.l_linear = nn.Linear(self.harmonics, 1)
        self._rate, self._hop = config.sampling_rate, hop
        self._amplitude, self._sigma = config.nsf_alpha, config.nsf_sigma
        self._threshold = config.nsf_voiced_threshold

    def forward(self, f0: Tensor, states: Sequence[SourceState]) -> Tensor:
        """f0 (b, frames) in hertz, 0 where unvoiced -> (b, 1, frames * hop). Does not move `states`."""
        order = torch.arange(1, self.harmonics + 1, device=f0.device)[None, :, None]
        phases = torch.stack([state.phases for state in states]).to(f0.device)
        angles = (order * _cycles(f0, states, self._hop, self._rate)[:, None] + phases[:, :, None]) % 1.0
        sines = self._amplitude * torch.sin(2 * torch.pi * angles).float()
        voiced = (f0 > self._threshold).float().repeat_interleave(self._hop, 1)
        weights = self.l_linear.weight[0]
        # one noise of the merged size stands for a noise per harmonic: the sum has the same distribution
        level = (voiced * self._sigma + (1 - voiced) * self._amplitude / 3) * weights.norm()
        merged = (weights[:, None] * sines).sum(1) * voiced + _noise(f0, states) * level + self.l_linear.bias
        return torch.tanh(merged)[:, None]


class PulseSource(nn.Module):
    """The source of the filter head: a band-limited pulse train of unit power where voiced, and white noise.

    All harmonics up to the Nyquist frequency (at most `nb_harmonics` + 1) have the same amplitude; their sum has the
    closed form of Dirichlet's kernel.
    """

    channels = 2

    def __init__(self, config: HiftConfig, hop: int) -> None:
        super().__init__()
        self.harmonics = config.nb_harmonics + 1
        self._rate, self._hop = config.sampling_rate, hop
        self._threshold = config.nsf_voiced_threshold

    def forward(self, f0: Tensor, states: Sequence[SourceState]) -> Tensor:
        """f0 (b, frames) in hertz -> (b, 2, frames * hop): pulses, noise. Does not move `states`."""
        pulses = self.pulses(f0, _cycles(f0, states, self._hop, self._rate))
        return torch.stack([pulses, _noise(f0, states)], dim=1)

    def pulses(self, f0: Tensor, cycles: Tensor) -> Tensor:
        """f0 (..., frames), cycles (..., frames * hop) double -> (..., frames * hop)."""
        voiced = f0 > self._threshold
        safe = f0.clamp(min=self._threshold, max=self._rate / 4)
        count = torch.floor(0.5 * self._rate / safe).clamp(max=self.harmonics)
        scale = (voiced * torch.sqrt(2 / count)).repeat_interleave(self._hop, -1)
        count = count.repeat_interleave(self._hop, -1).double()
        half = torch.pi * (cycles % 1.0)
        below = torch.sin(half)
        at_peak = below.abs() < 1e-6
        kernel = torch.sin((2 * count + 1) * half) / (2 * torch.where(at_peak, torch.ones_like(below), below))
        kernel = torch.where(at_peak, count + 0.5, kernel) - 0.5
        return kernel.float() * scale
