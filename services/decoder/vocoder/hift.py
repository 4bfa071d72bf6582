"""The HiFT vocoder (HiFTNet: Li et al. 2023), in its released form and with a light head.

`head: istft` is the released network: the mel is upsampled in stages, the source's STFT joins at each, and magnitudes
and phases of a small iSTFT come out. `head: source_filter` has no upsampling stage: at the mel's own rate the network
predicts two magnitude responses, for the pulse train and for the noise, and both are applied to the source's STFT. The
response to the pulses is made minimum-phase, as a vocal tract's is.
"""

import math
from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from services.decoder import mel as mel_format
from services.decoder.config import HiftConfig
from services.decoder.vocoder.layers import F0Predictor, ResBlock, length_mask, masked, overlap_add
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

    def decode(self, mel: Tensor, source: Tensor, frames: Sequence[int] | None = None) -> Tensor:
        """Waveform (b, frames * hop), within the audio limit.

        Args:
            mel: (b, 80, frames).
            source: (b, channels, frames * hop).
            frames: of each sequence where they are padded; what is beyond a sequence's end is no audio.
        """
        raise NotImplementedError

    def _mean_of_blocks(self, blocks: list[nn.Module], x: Tensor, mask: Tensor | None) -> Tensor:
        return torch.stack([block(x, mask) for block in blocks]).mean(0)


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

    def decode(self, mel: Tensor, source: Tensor, frames: Sequence[int] | None = None) -> Tensor:
        """See `HiFTGenerator.decode`; source (b, 1, samples)."""
        config = self.config
        lengths = [mel.shape[2]] * len(mel) if frames is None else frames
        excitation = self._excitation(source, lengths)
        x = self.conv_pre(masked(mel, length_mask(lengths, mel)))
        per_stage = len(config.resblock_kernel_sizes)
        for stage, (up, rate) in enumerate(zip(self.ups, config.upsample_rates, strict=True)):
            before = length_mask(lengths, mel)
            x = up(masked(F.leaky_relu(x, config.lrelu_slope), before))
            lengths = [length * rate for length in lengths]
            if stage == len(self.ups) - 1:
                x = F.pad(x, (1, 0), mode="reflect")  # to the STFT's frames + 1
                lengths = [length + 1 for length in lengths]
            mask = length_mask(lengths, mel)
            joining = masked(self.source_downs[stage](excitation), mask)
            x = masked(x, mask) + self.source_resblocks[stage](joining, mask)
            x = self._mean_of_blocks(list(self.resblocks[stage * per_stage : (stage + 1) * per_stage]), x, mask)
        x = self.conv_post(masked(F.leaky_relu(x), mask))  # the default slope here, as in the released network
        return self._waves(x, lengths).clamp(-config.audio_limit, config.audio_limit)

    def _excitation(self, source: Tensor, frames: Sequence[int]) -> Tensor:
        """The source's spectrum (b, n_fft + 2, t); each sequence's end is reflected as if it were alone."""
        size, hop = self.config.istft_params.n_fft, self.config.istft_params.hop_len
        window: Tensor = self.window  # type: ignore[assignment]
        out: Tensor | None = None
        for length, rows in _by_length(frames).items():
            spectrum = torch.stft(source[rows, 0, : length * self.hop], size, hop, size, window, return_complex=True)
            if out is None:
                out = source.new_zeros(len(source), 2 * spectrum.shape[1], max(frames) * self.hop // hop + 1)
            out[rows, :, : spectrum.shape[2]] = torch.cat([spectrum.real, spectrum.imag], dim=1)
        assert out is not None
        return out

    def _waves(self, x: Tensor, lengths: Sequence[int]) -> Tensor:
        """x (b, n_fft + 2, t): log magnitudes and phases; `lengths` (b) spectra of each sequence."""
        size, hop = self.config.istft_params.n_fft, self.config.istft_params.hop_len
        window: Tensor = self.window  # type: ignore[assignment]
        bins = size // 2 + 1
        magnitude = torch.exp(x[:, :bins]).clamp(max=_MAX_MAGNITUDE)
        spectrum = torch.polar(magnitude, torch.sin(x[:, bins:]))
        waves = x.new_zeros(len(x), (max(lengths) - 1) * hop)
        for length, rows in _by_length(lengths).items():
            waves[rows, : (length - 1) * hop] = torch.istft(spectrum[rows, :, :length], size, hop, size, window)
        return waves


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

    def responses(self, mel: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """mel (b, 80, frames) -> log magnitudes (b, bins, frames) of the filters for pulses and noise."""
        mel = masked(mel, mask)
        x = masked(self.conv_pre(mel), mask)
        x = self._mean_of_blocks(list(self.resblocks), x, mask)
        change = self.conv_post(F.leaky_relu(x, self.config.lrelu_slope))
        # start from the mel's own envelope: what is left to learn is fine structure and how voiced each bin is
        envelope = torch.log((self.spread @ mel.exp()).clamp(min=1e-5)) - 3.0  # type: ignore[operator]
        pulses, noise = change.chunk(2, dim=1)
        return (envelope + pulses).clamp(-14, 4), (envelope - 1.0 + noise).clamp(-14, 4)

    def decode(self, mel: Tensor, source: Tensor, frames: Sequence[int] | None = None) -> Tensor:
        """See `HiFTGenerator.decode`; source (b, 2, samples): pulses and noise, zero beyond a sequence's end."""
        size, hop = self.config.istft_params.n_fft, self.config.istft_params.hop_len
        window: Tensor = self.window  # type: ignore[assignment]
        mask = None if frames is None else length_mask(frames, mel)
        margin = (size - hop) // 2
        padded = F.pad(source, (margin, margin)).flatten(0, 1)
        spectrum = torch.stft(padded, size, hop, size, window, center=False, return_complex=True)
        pulses, noise = spectrum.view(*source.shape[:2], *spectrum.shape[1:]).unbind(1)
        for_pulses, for_noise = self.responses(mel, mask)
        shaped = masked(pulses * _minimum_phase(for_pulses) + noise * torch.exp(for_noise), mask)
        inverse = torch.fft.irfft(shaped.transpose(1, 2), size) * window
        weight = window.square().expand(1, mel.shape[2], size)
        power = overlap_add(weight if mask is None else weight * mask.transpose(1, 2), hop)
        wave = (overlap_add(inverse, hop) / power.clamp(min=1e-6))[:, margin : margin + source.shape[2]]
        return wave.clamp(-self.config.audio_limit, self.config.audio_limit)


def _by_length(lengths: Sequence[int]) -> dict[int, list[int]]:
    """The rows of each length."""
    rows: dict[int, list[int]] = {}
    for row, length in enumerate(lengths):
        rows.setdefault(length, []).append(row)
    return rows


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
