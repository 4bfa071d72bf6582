"""Whisper's features, against transformers' own implementation."""

import numpy as np
import pytest
import torch
from transformers import WhisperFeatureExtractor

from services.tokenizer.features import FeatureConfig, LogMel, mel_filters
from tests.unit.tokenizer.checkpoint import noise


def config(bins: int, log_mel_max: float | None = None) -> FeatureConfig:
    return FeatureConfig(sample_rate=16000, n_fft=400, hop=160, bins=bins, log_mel_max=log_mel_max)


@pytest.mark.parametrize("bins", [80, 128])
def test_filters_equal_whispers(bins: int) -> None:
    expected = torch.from_numpy(WhisperFeatureExtractor(feature_size=bins).mel_filters.T)
    torch.testing.assert_close(mel_filters(config(bins)), expected.float(), atol=1e-7, rtol=1e-5)


@pytest.mark.parametrize("samples", [1, 201, 1280, 1281, 47_993])
def test_features_equal_whispers(samples: int) -> None:
    clip = noise(samples, seed=samples)
    extractor = WhisperFeatureExtractor(feature_size=80)
    expected = extractor(
        clip.numpy(), sampling_rate=16000, padding="longest", pad_to_multiple_of=1280, return_tensors="pt"
    )
    features, lengths = LogMel(config(80))([clip], 1280)
    torch.testing.assert_close(features, torch.as_tensor(np.asarray(expected["input_features"])), atol=1e-4, rtol=0)
    assert lengths.tolist() == [-(-samples // 160)]


def test_a_clip_has_the_same_features_in_any_batch() -> None:
    log_mel = LogMel(config(80))
    clips = [noise(samples, seed=1) for samples in (1280, 5000, 20_000)]
    together, lengths = log_mel(clips, 1280)
    for row, clip in enumerate(clips):
        alone, length = log_mel([clip], 1280)
        assert lengths[row] == length[0]
        torch.testing.assert_close(together[row, :, : alone.shape[2]], alone[0])
        assert not together[row, :, alone.shape[2] :].any()


def test_with_a_fixed_level_a_frame_depends_on_its_own_window_alone() -> None:
    quiet, loud = noise(8000, seed=2) * 0.01, noise(8000, seed=3)
    both = torch.cat((quiet, loud))
    for level, equal in ((1.5, True), (None, False)):
        log_mel = LogMel(config(80, level))
        alone, _ = log_mel([quiet], 1280)
        before, _ = log_mel([both], 1280)
        # 48 frames end before the loud half's first window.
        assert torch.allclose(alone[..., :48], before[..., :48]) is equal
