import math

import numpy as np
import torch

from services.decoder.mel import HOP, SAMPLE_RATE
from training.vocoder.data import f0_of
from training.vocoder.train import _losses, new_model, spectral_distance


def test_f0_of_a_tone() -> None:
    """A buzz that glides from 150 to 250 Hz: its F0 is found at the mel frames' centres."""
    time = np.arange(2 * SAMPLE_RATE) / SAMPLE_RATE
    hz = 150 + 50 * time
    phase = 2 * np.pi * np.cumsum(hz) / SAMPLE_RATE
    wave = (0.2 * np.sum([np.sin(k * phase) / k for k in range(1, 9)], axis=0)).astype(np.float32)
    wave[3 * SAMPLE_RATE // 2 :] = 0
    f0 = f0_of(wave)
    assert f0.shape == (len(wave) // HOP,)
    inside = slice(10, 110)
    wanted = hz[HOP // 2 :: HOP][: len(f0)]
    assert np.abs(f0[inside] / wanted[inside] - 1).max() < 0.02
    assert not f0[140:].any()


def test_distance_is_zero_for_the_same_and_grows() -> None:
    wave = torch.sin(torch.arange(8192) * 0.05)[None]
    assert float(spectral_distance(wave, wave)) == 0
    near, far = (spectral_distance(wave + level * torch.randn_like(wave), wave) for level in (0.01, 0.3))
    assert 0 < float(near) < float(far)


def test_training_learns() -> None:
    torch.manual_seed(0)
    model = new_model()
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
    time = torch.arange(24 * HOP) / SAMPLE_RATE
    wave = sum((torch.sin(2 * torch.pi * 200 * k * time) / k for k in range(1, 20)), torch.zeros(24 * HOP))[None] * 0.2
    f0 = torch.full((1, 24), 200.0)
    totals: list[float] = []
    for _ in range(15):
        losses = _losses(model, wave, f0)
        optimiser.zero_grad()
        losses.total.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        totals.append(losses.total.item())
        assert math.isfinite(totals[-1])
    assert np.mean(totals[-3:]) < 0.9 * np.mean(totals[:3])
