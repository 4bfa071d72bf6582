import math

import pytest
import torch

from services.decoder.mel import FFT, HOP, SAMPLE_RATE, filterbank, log_mel


def test_shape_and_floor() -> None:
    mel = log_mel(torch.zeros(2, 10 * HOP + 100))
    assert mel.shape == (2, 80, 10)
    assert float(mel.max()) == pytest.approx(math.log(1e-5), abs=1e-5)


@pytest.mark.parametrize("hz", [200.0, 1000.0, 3500.0])
def test_a_tone_lands_in_its_band(hz: float) -> None:
    wave = torch.sin(2 * torch.pi * hz * torch.arange(SAMPLE_RATE) / SAMPLE_RATE)[None]
    loudest = int(log_mel(wave)[0, :, 40].argmax())
    centre = float(filterbank()[loudest].argmax()) * SAMPLE_RATE / FFT
    assert abs(centre - hz) < max(40.0, 0.06 * hz)


def test_bands_have_unit_area_and_end_at_8_khz() -> None:
    bank = filterbank()
    area = bank.sum(1) * SAMPLE_RATE / FFT
    assert torch.all((area[20:] - 1).abs() < 0.15)
    assert bank[:, int(8000 * FFT / SAMPLE_RATE) + 2 :].abs().max() == 0
