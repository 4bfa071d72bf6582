"""The reference implementation's numbers on a tiny checkpoint of the released layout."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from services.decoder.weights import Checkpoint

TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def golden(golden_dir: Path) -> dict[str, Tensor]:
    with np.load(golden_dir / "decoder" / "golden.npz") as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files}


def worst(ours: Tensor, reference: Tensor) -> float:
    assert ours.shape == reference.shape
    return float((ours - reference).abs().max())


@torch.inference_mode()
def test_encoder_out(tiny: Checkpoint, golden: dict[str, Tensor]) -> None:
    assert worst(tiny.flow.encode(golden["tokens"].long()), golden["encoder_out"]) < TOLERANCE


@torch.inference_mode()
def test_mel(tiny: Checkpoint, golden: dict[str, Tensor]) -> None:
    mel = tiny.flow.generate(
        golden["tokens"].long(),
        golden["noise"],
        torch.zeros(1, 80, 0),
        golden["embedding"],
        steps=tiny.config.inference.n_timesteps,
        guidance=tiny.config.guidance,
    )
    assert worst(mel, golden["mel"]) < TOLERANCE


@torch.inference_mode()
def test_mel_continued(tiny: Checkpoint, golden: dict[str, Tensor]) -> None:
    frames = tiny.flow.frames(55)
    noise = torch.randn((1, 80, frames), generator=torch.Generator().manual_seed(42))
    mel = tiny.flow.generate(
        golden["tokens"][:, :55].long(),
        noise,
        golden["prompt_feat"].transpose(1, 2),
        golden["embedding"],
        steps=10,
        guidance=0.7,
    )
    assert worst(mel, golden["mel_continued"]) < TOLERANCE


@torch.inference_mode()
def test_f0(tiny: Checkpoint, golden: dict[str, Tensor]) -> None:
    assert worst(tiny.vocoder.f0_predictor(golden["mel"]), golden["f0"]) < TOLERANCE


@torch.inference_mode()
def test_wav(tiny: Checkpoint, golden: dict[str, Tensor]) -> None:
    assert worst(tiny.vocoder.decode(golden["mel"], golden["source"]), golden["wav"]) < TOLERANCE
