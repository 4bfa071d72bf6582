"""Whisper's log-mel spectrogram (arXiv:2212.04356, section 2.2), of whole clips."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_FLOOR = 1e-10
_RANGE = 8.0  # decades kept below the reference level


@dataclass(frozen=True, slots=True)
class FeatureConfig:
    """How sound becomes mel frames.

    Attributes:
        sample_rate: hertz.
        n_fft: samples of an analysis window.
        hop: samples between windows.
        bins: mel bins.
        log_mel_max: level (log10 of power) that the dynamic range hangs from; none takes each clip's own maximum,
            as Whisper does. With a fixed level a frame does not depend on what comes later, so a stream is exact.
    """

    sample_rate: int
    n_fft: int
    hop: int
    bins: int
    log_mel_max: float | None

    @property
    def half(self) -> int:
        """Samples of a window on either side of its centre."""
        return self.n_fft // 2

    @classmethod
    def from_released(cls, config: Mapping[str, Any]) -> "FeatureConfig":
        """Reads a `preprocessor_config.json`; `log_mel_max` is this project's own, optional key.

        Raises:
            ValueError: a key is missing or no positive number.
        """
        for key in ("sampling_rate", "n_fft", "hop_length", "feature_size"):
            value = config.get(key)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{key} must be a positive whole number, is {value!r}")
        if config["n_fft"] % 2 or config["n_fft"] < 2 * config["hop_length"]:
            raise ValueError(
                f"n_fft {config['n_fft']} must be even and at least twice hop_length {config['hop_length']}"
            )
        level = config.get("log_mel_max")
        if level is not None and (isinstance(level, bool) or not isinstance(level, int | float)):
            raise ValueError(f"log_mel_max must be a number, is {level!r}")
        return cls(
            sample_rate=config["sampling_rate"],
            n_fft=config["n_fft"],
            hop=config["hop_length"],
            bins=config["feature_size"],
            log_mel_max=None if level is None else float(level),
        )


class LogMel(nn.Module):
    """Samples to log-mel frames. Frame t is centred on sample t x hop."""

    window: Tensor
    filters: Tensor

    def __init__(self, config: FeatureConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("window", torch.hann_window(config.n_fft), persistent=False)
        self.register_buffer("filters", mel_filters(config), persistent=False)

    def forward(self, clips: Sequence[Tensor], multiple: int) -> tuple[Tensor, Tensor]:
        """Features of several clips as one batch.

        Each clip is padded with silence to whole tokens and framed by itself, so that its features do not depend on
        its neighbours; beyond that the batch is filled with zeros, which nothing may look at.

        Args:
            clips: samples in [-1, 1], each (samples,), at least one sample.
            multiple: samples of a token; clips are padded to a multiple of it.

        Returns:
            (clips, bins, mel frames), and the mel frames of each clip before padding, (clips).
        """
        mels = [self.normalise(self.log_power(self.frame(pad_to_multiple(clip, multiple)))) for clip in clips]
        longest = max(mel.shape[1] for mel in mels)
        batch = torch.stack([F.pad(mel, (0, longest - mel.shape[1])) for mel in mels])
        lengths = torch.tensor([-(-clip.shape[0] // self.config.hop) for clip in clips], device=batch.device)
        return batch, lengths

    def frame(self, samples: Tensor, *, first: bool = True, last: bool = True) -> Tensor:
        """Windows of a clip or of a part of one.

        A clip's ends are reflected, as a centred transform does, and the window around its very end is left out, as
        Whisper does. A part from the middle brings half a window of what lies before its first frame's centre and
        half a window from its last frame's centre on.

        Args:
            samples: (samples,); at an end of the clip more than half a window.
            first: the part begins the clip.
            last: the part ends the clip; the clip is then a multiple of the hop long.

        Returns:
            (frames, n_fft), not yet windowed.
        """
        half = self.config.half
        padded = F.pad(samples[None], (half if first else 0, half if last else 0), mode="reflect")[0]
        frames = padded.unfold(0, self.config.n_fft, self.config.hop)
        return frames[:-1] if last else frames

    def log_power(self, frames: Tensor) -> Tensor:
        """Log10 of the mel power, (bins, frames), of windows (frames, n_fft)."""
        power = torch.view_as_real(torch.fft.rfft(frames * self.window)).square().sum(-1)
        return (self.filters @ power.t()).clamp(min=_FLOOR).log10()

    def normalise(self, log_power: Tensor, level: Tensor | float | None = None) -> Tensor:
        """Whisper's scaling of (bins, frames): a range of 8 decades below the level, then (x + 4) / 4.

        Args:
            log_power: from `log_power`.
            level: used where the configuration fixes none; the clip's own maximum when not given.
        """
        if self.config.log_mel_max is not None:
            level = self.config.log_mel_max
        elif level is None:
            level = log_power.max()
        return (torch.clamp(log_power, min=level - _RANGE) + 4.0) / 4.0


def pad_to_multiple(samples: Tensor, multiple: int) -> Tensor:
    """Appends zeros until the length is a multiple of `multiple`."""
    return F.pad(samples, (0, -samples.shape[0] % multiple))


def mel_filters(config: FeatureConfig) -> Tensor:
    """Triangular filters of equal area on Slaney's mel scale from 0 Hz to the Nyquist frequency, (bins, n_fft / 2 + 1).

    Source: M. Slaney, Auditory Toolbox, 1998: linear below 1 kHz, logarithmic above.
    """
    nyquist = config.sample_rate / 2
    edges = _mel_to_hertz(torch.linspace(0.0, _hertz_to_mel(nyquist), config.bins + 2, dtype=torch.float64))
    hertz = torch.linspace(0.0, nyquist, config.n_fft // 2 + 1, dtype=torch.float64)
    low, centre, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising = (hertz - low) / (centre - low)
    falling = (high - hertz) / (high - centre)
    return (torch.minimum(rising, falling).clamp(min=0.0) * 2.0 / (high - low)).float()


_LINEAR_HERTZ = 200.0 / 3.0  # per mel, below the knee
_KNEE_HERTZ = 1000.0
_KNEE_MEL = _KNEE_HERTZ / _LINEAR_HERTZ
_LOG_STEP = math.log(6.4) / 27.0  # natural log of frequency per mel, above the knee


def _hertz_to_mel(hertz: float) -> float:
    if hertz < _KNEE_HERTZ:
        return hertz / _LINEAR_HERTZ
    return _KNEE_MEL + math.log(hertz / _KNEE_HERTZ) / _LOG_STEP


def _mel_to_hertz(mel: Tensor) -> Tensor:
    return torch.where(mel < _KNEE_MEL, mel * _LINEAR_HERTZ, _KNEE_HERTZ * torch.exp((mel - _KNEE_MEL) * _LOG_STEP))
