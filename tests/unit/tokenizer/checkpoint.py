"""Random tokenizers in the released layout, small enough to run hundreds of times."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from services.tokenizer.config import EncoderConfig
from services.tokenizer.features import FeatureConfig, LogMel
from services.tokenizer.model import WhisperVQEncoder
from services.tokenizer.weights import CONFIG, MODEL, PREFIX, PREPROCESSOR

CONFIG_VALUES: dict[str, Any] = {
    "num_mel_bins": 16,
    "d_model": 32,
    "encoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "quantize_position": 2,
    "pooling_position": 2,
    "pooling_kernel_size": 4,
    "quantize_causal_block_size": 16,
    "quantize_vocab_size": 128,
    "max_source_positions": 200,
    "encoder_causal_convolution": True,
    "quantize_encoder_only": True,
}
PREPROCESSOR_VALUES: dict[str, Any] = {
    "sampling_rate": 16000,
    "n_fft": 400,
    "hop_length": 160,
    "feature_size": 16,
    "log_mel_max": 1.5,
}


def write(
    directory: Path,
    config: dict[str, Any] | None = None,
    preprocessor: dict[str, Any] | None = None,
    dtype: torch.dtype = torch.float32,
) -> Path:
    """Writes a checkpoint of random weights; the arguments change single keys, a value of None removes one."""
    values = _changed(CONFIG_VALUES, config or {})
    features = _changed(PREPROCESSOR_VALUES, preprocessor or {})
    (directory / CONFIG).write_text(json.dumps(values))
    (directory / PREPROCESSOR).write_text(json.dumps(features))
    save_file({PREFIX + key: value.to(dtype) for key, value in random_state().items()}, directory / MODEL)
    return directory


def random_state() -> dict[str, torch.Tensor]:
    """Weights of `CONFIG_VALUES`' sizes whose tokens follow the sound, with codes far enough apart for no near ties."""
    torch.manual_seed(7)
    encoder = WhisperVQEncoder(EncoderConfig.from_released(CONFIG_VALUES))
    log_mel = LogMel(FeatureConfig.from_released(PREPROCESSOR_VALUES))
    with torch.no_grad():
        encoder.conv1.weight *= 4.0
        encoder.conv2.weight *= 4.0
        encoder.embed_positions.weight *= 0.3
        # Codes are what the encoder makes of other sound.
        features, lengths = log_mel([noise(64_000, seed) for seed in range(1000, 1008)], 1280)
        hidden, _ = encoder.hidden(features, lengths)
        encoder.codebook.weight.copy_(hidden.flatten(0, 1)[: encoder.config.codes])
    return {key: value.clone() for key, value in encoder.state_dict().items()}


def noise(samples: int, seed: int) -> torch.Tensor:
    """Sound whose level and colour change all the time, (samples,), as 16-bit audio would hold it."""
    generator = torch.Generator().manual_seed(seed)
    level = torch.rand(samples // 800 + 2, generator=generator).pow(3).repeat_interleave(800)[:samples]
    at = torch.arange(samples)
    tone = torch.sin(at * 0.05 * (1.0 + torch.sin(at / 9000.0)))
    sound = level * (0.5 * tone + 0.2 * torch.randn(samples, generator=generator))
    return (sound.clamp(-1, 1) * 32767).round() / 32768


def _changed(values: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in {**values, **changes}.items() if value is not None}
