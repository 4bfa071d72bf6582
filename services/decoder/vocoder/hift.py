"""The HiFT vocoder (HiFTNet: Li et al. 2023), in its released form and with a light head.

`head: istft` is the released network: the mel is upsampled in stages, the source's STFT joins at each, and magnitudes
and phases of a small iSTFT come out. `head: source_filter` has no upsampling stage: at the mel's own rate the network
predicts two magnitude responses, for the pulse train and for the noise, and both are applied to the source's STFT. The
response to the pulses is made minimum-phase, as a vocal tract's is.
"""

import math
from itertools import accumulate

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from services.decoder import mel as mel_format
from services.decoder.config import HiftConfig
from services.decoder.vocoder.layers import F0Predictor, ResBlock, overlap_add
from services.decoder.vocoder.source import NsfSource, PulseSource, SourceState

_MAX_MAGNITUDE = 100.0


class HiFTGenerator(nn.Module):
    """Mel and source to waveform. Make one with `build`."""

    m_source: NsfSource | PulseSource

    def __init__(self, config: HiftConfig) -> None:
        super().__init__()
        self.config = config
        self.hop = math.prod(config.upsample_rates) * config.istft_params.hop_len
        self.f0_predictor = F0Predictor(config.f0_predictor)
        self.conv_pre = nn.Conv1d(config.in_channels, config.base_channels, 7, padding=3)

    def new_source(self, seed: int) -> SourceState:
        """The state of a new utterance's source."""
        return SourceState(seed, self.hop, self.m_source.harmonics)

    def decode(self, mel: Tensor, source: Tensor) -> Tensor:
        """mel (b, 80, frames), source (b, channels, frames * hop) -> (b, frames * hop), within the audio limit."""
        raise NotImplementedError

    def _mean_of_blocks(self, blocks: list[nn.Module], x: Tensor) -> Tensor:
        return torch.stack([block(x) for block in blocks]).mean(0)


class IstftVocoder(HiFTGenerator):
    """The released network."""

    def __init__(self, config: HiftConfig) -> None:
        super().__init__(config)
        self.m_source = NsfSource(config, self.hop)
        base, bins = config.base_channels, config.istft_params.n_fft + 2
        widths = [base // 2 ** (stage + 1) for stage in range(len(config.upsample_rates))]
        self.ups = nn.ModuleList(
            nn.ConvTranspose1d(2 * width, width, kernel, rate, padding=(kernel - rate) // 2)
            for width, rate, kernel in zip(widths, config.upsample_rates, config.upsample_kernel_sizes, strict=True)
        )
        # the source's STFT is at the last stage's rate; earlier stages take it slowed down by the stages still to come
        downs = list(accumulate([1, *config.upsample_rates[:0:-1]], lambda rate, more: rate * more))[::-1]
        self.source_downs = nn.ModuleList(
            nn.Conv1d(bins, width, 1) if rate == 1 else nn.Conv1d(bins, width, 2 * rate, rate, padding=rate // 2)
            for width, rate in zip(widths, downs, strict=True)
        )
        source_shapes = zip(
            widths, config.source_resblock_kernel_sizes, config.source_resblock_dilation_sizes, strict=True
        )
        self.source_resblocks = nn.ModuleList(ResBlock(*shape) for shape in source_shapes)
        self.resblocks = nn.ModuleList(
            ResBlock(width, kernel, dilations)
            for width in widths
            for kernel, dilations in zip(config.resblock_kernel_sizes, config.resblock_dilation_sizes, strict=True)
        )
        self.conv_post = nn.Conv1d(widths[-1], bins, 7, padding=3)
        self.register_buffer("window", torch.hann_window(config.istft_params.n_fft), persistent=False)

    def decode(self, mel: Tensor, source: Tensor) -> Tensor:
        """See `HiFTGenerator.decode`; source (b, 1, samples)."""
        size, hop = self.config.istft_params.n_fft, self.config.istft_params.hop_len
        window: Tensor = self.window  # type: ignore[assignment]
        spectrum = torch.stft(source[:, 0], size, hop, size, window, return_complex=True)
        excitation = torch.cat([spectrum.real, spectrum.imag], dim=1)
        x = self.conv_pre(mel)
        per_stage = len(self.config.resblock_kernel_sizes)
        for stage, up in enumerate(self.ups):
            x = up(F.leaky_relu(x, self.config.lrelu_slope))
            if stage == len(self.ups) - 1:
                x = F.pad(x, (1, 0), mode="reflect")  # to the STFT's frames + 1
            x = x + self.source_resblocks[stage](self.source_downs[stage](excitation))
            x = self._mean_of_blocks(list(self.resblocks[stage * per_stage : (stage + 1) * per_stage]), x)
        x = self.conv_post(F.leaky_relu(x))  # the default slope here, as in the released network
        bins = size // 2 + 1
        magnitude = torch.exp(x[:, :bins]).clamp(max=_MAX_MAGNITUDE)
        wave = torch.istft(torch.polar(magnitude, torch.sin(x[:, bins:])), size, hop, size, window)
        return wave.clamp(-self.config.audio_limit, self.config.audio_limit)


class SourceFilterVocoder(HiFTGenerator):
    """The light head. Its iSTFT has the mel's own FFT and hop, so frames of both are the same frames."""

    def __init__(self, config: HiftConfig) -> None:
        super().__init__(config)
        self.m_source = PulseSource(config, self.hop)
        self.resblocks = nn.ModuleList(
            ResBlock(config.base_channels, kernel, dilations)
            for kernel, dilations in zip(config.resblock_kernel_sizes, config.resblock_dilation_sizes, strict=True)
        )
        self.conv_post = nn.Conv1d(config.base_channels, config.istft_params.n_fft + 2, 3, padding=1)
        bank = mel_format.filterbank()
        spread = torch.linalg.pinv(bank).clamp(min=0)
        spread = spread / (spread @ bank).sum(1, keepdim=True).clamp(min=1e-3)
        self.register_buffer("spread", spread, persistent=False)
        self.register_buffer("window", torch.hann_window(config.istft_params.n_fft), persistent=False)

    def responses(self, mel: Tensor) -> tuple[Tensor, Tensor]:
        """mel (b, 80, frames) -> log magnitudes (b, bins, frames) of the filters for pulses and noise."""
        x = self.conv_pre(mel)
        x = self._mean_of_blocks(list(self.resblocks), x)
        change = self.conv_post(F.leaky_relu(x, self.config.lrelu_slope))
        # start from the mel's own envelope: what is left to learn is fine structure and how voiced each bin is
        envelope = torch.log((self.spread @ mel.exp()).clamp(min=1e-5)) - 3.0  # type: ignore[operator]
        pulses, noise = change.chunk(2, dim=1)
        return (envelope + pulses).clamp(-14, 4), (envelope - 1.0 + noise).clamp(-14, 4)

    def decode(self, mel: Tensor, source: Tensor) -> Tensor:
        """See `HiFTGenerator.decode`; source (b, 2, samples): pulses and noise."""
        size, hop = self.config.istft_params.n_fft, self.config.istft_params.hop_len
        window: Tensor = self.window  # type: ignore[assignment]
        margin = (size - hop) // 2
        padded = F.pad(source, (margin, margin)).flatten(0, 1)
        spectrum = torch.stft(padded, size, hop, size, window, center=False, return_complex=True)
        pulses, noise = spectrum.view(*source.shape[:2], *spectrum.shape[1:]).unbind(1)
        for_pulses, for_noise = self.responses(mel)
        shaped = pulses * _minimum_phase(for_pulses) + noise * torch.exp(for_noise)
        frames = torch.fft.irfft(shaped.transpose(1, 2), size) * window
        power = overlap_add(window.square().expand(1, mel.shape[2], size), hop)
        wave = (overlap_add(frames, hop) / power.clamp(min=1e-6))[:, margin : margin + source.shape[2]]
        return wave.clamp(-self.config.audio_limit, self.config.audio_limit)


def _minimum_phase(log_magnitude: Tensor) -> Tensor:
    """(b, bins, frames) -> complex response of that magnitude whose phase is minimal (folded real cepstrum)."""
    cepstrum = torch.fft.irfft(log_magnitude.transpose(1, 2))
    size = cepstrum.shape[-1]
    fold = torch.zeros(size, device=cepstrum.device)
    fold[0] = fold[size // 2] = 1
    fold[1 : size // 2] = 2
    return torch.exp(torch.fft.rfft(cepstrum * fold)).transpose(1, 2)


def build(config: HiftConfig) -> HiFTGenerator:
    """The vocoder that the configuration describes."""
    return IstftVocoder(config) if config.head == "istft" else SourceFilterVocoder(config)
