"""The decoder's mel spectrogram: 80 bins, 22050 Hz, FFT and window 1024, hop 256, 0-8000 Hz, natural logarithm.

As in HiFi-GAN and Matcha-TTS: magnitude (not power), Slaney's mel scale and area normalisation, reflection padding of
(FFT - hop) / 2, so frame i is centred on sample 256 i + 128 and n samples give n // 256 frames.
"""

import functools

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

SAMPLE_RATE = 22_050
FFT = 1024
HOP = 256
BINS = 80
TOP_HZ = 8000.0
FLOOR = 1e-5
MARGIN = (FFT - HOP) // 2


def _hz_to_mel(hz: np.ndarray) -> np.ndarray:
    """Slaney's scale: linear below 1000 Hz (200 / 3 Hz a mel), logarithmic above (27 mels a factor of 6.4)."""
    high = 15.0 + np.log(np.maximum(hz, 1e-9) / 1000.0) * 27.0 / np.log(6.4)
    return np.where(hz < 1000.0, hz * 3.0 / 200.0, high)


def _mel_to_hz(mel: np.ndarray) -> np.ndarray:
    return np.where(mel < 15.0, mel * 200.0 / 3.0, 1000.0 * np.exp((mel - 15.0) * np.log(6.4) / 27.0))


@functools.cache
def filterbank() -> Tensor:
    """(80, 513) triangles of area one."""
    bottom, top = _hz_to_mel(np.array([0.0, TOP_HZ]))
    edges = _mel_to_hz(np.linspace(bottom, top, BINS + 2))
    hz = np.linspace(0, SAMPLE_RATE / 2, FFT // 2 + 1)
    rising = (hz[None] - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - hz[None]) / (edges[2:] - edges[1:-1])[:, None]
    triangles = np.maximum(0, np.minimum(rising, falling)) * (2.0 / (edges[2:] - edges[:-2]))[:, None]
    return torch.from_numpy(triangles.astype(np.float32))


def log_mel(pcm: Tensor) -> Tensor:
    """pcm (b, samples) in -1..1, at least 1024 samples -> (b, 80, samples // 256)."""
    padded = F.pad(pcm[:, None], (MARGIN, MARGIN), mode="reflect")[:, 0]
    window = torch.hann_window(FFT, device=pcm.device)
    spectrum = torch.stft(padded, FFT, HOP, FFT, window, center=False, return_complex=True)
    magnitude = torch.sqrt(spectrum.real.square() + spectrum.imag.square() + 1e-9)
    return torch.log((filterbank().to(pcm.device) @ magnitude).clamp(min=FLOOR))
