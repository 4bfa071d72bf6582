"""The trained encoder as a released checkpoint: config.json, preprocessor_config.json, model.safetensors (float16)."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from services.tokenizer.weights import CONFIG as CONFIG_FILE
from services.tokenizer.weights import MODEL, PREFIX, PREPROCESSOR
from training.paths import WEIGHTS
from training.tokenizer.data import FEATURES
from training.tokenizer.model import CONFIG, TokenizerTrainer

TOKENIZER = WEIGHTS / "tokenizer"


def export(model: TokenizerTrainer, folder: Path = TOKENIZER) -> None:
    """Writes the encoder and its codebook. What only training needed stays out."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "architectures": ["WhisperVQEncoder"],
        "model_type": "whisper",
        "num_mel_bins": CONFIG.mel_bins,
        "d_model": CONFIG.d_model,
        "encoder_attention_heads": CONFIG.heads,
        "encoder_ffn_dim": CONFIG.ffn_dim,
        "encoder_layers": CONFIG.layers,
        "num_hidden_layers": CONFIG.layers,
        "encoder_causal_convolution": True,
        "encoder_causal_attention": False,
        "quantize_causal_encoder": False,
        "quantize_encoder_only": True,
        "quantize_position": CONFIG.layers,
        "quantize_vocab_size": CONFIG.codes,
        "quantize_causal_block_size": CONFIG.block_frames,
        "pooling_type": "avg",
        "pooling_position": CONFIG.layers,
        "pooling_kernel_size": CONFIG.pooling,
        "max_source_positions": CONFIG.max_frames,
        "activation_function": "gelu",
        "scale_embedding": False,
        "torch_dtype": "float16",
    }
    preprocessor = {
        "feature_extractor_type": "WhisperFeatureExtractor",
        "feature_size": FEATURES.bins,
        "sampling_rate": FEATURES.sample_rate,
        "n_fft": FEATURES.n_fft,
        "hop_length": FEATURES.hop,
        "log_mel_max": FEATURES.log_mel_max,
    }
    (folder / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n")
    (folder / PREPROCESSOR).write_text(json.dumps(preprocessor, indent=2) + "\n")
    encoder = model.encoder.state_dict()
    state = {PREFIX + name: tensor.to(torch.float16).contiguous() for name, tensor in encoder.items()}
    save_file(state, folder / MODEL, metadata={"format": "pt"})
    (folder / MODEL).chmod(0o644)  # safetensors makes it private
