"""Loads a tokenizer checkpoint in the released layout: config.json, preprocessor_config.json, model.safetensors."""

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from services.common.errors import WeightsError
from services.tokenizer.config import EncoderConfig
from services.tokenizer.features import FeatureConfig, LogMel
from services.tokenizer.model import CONV_STRIDE, WhisperVQEncoder

CONFIG = "config.json"
PREPROCESSOR = "preprocessor_config.json"
MODEL = "model.safetensors"
PREFIX = "model.encoder."

_LAYER = re.compile(r"layers\.(\d+)\.")
_CODEBOOK = "codebook.weight"
_UNUSED = ("layer_norm.", "embed_positions2.", "ema_count", "ema_weight")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A loaded tokenizer.

    Attributes:
        encoder: in evaluation mode; its codebook is float32 whatever the rest is.
        log_mel: its features.
        revision: 12 hexadecimal digits that change with any of the three files.
    """

    encoder: WhisperVQEncoder
    log_mel: LogMel
    revision: str

    @property
    def token_samples(self) -> int:
        """Samples of one token."""
        return self.encoder.config.pooling * CONV_STRIDE * self.log_mel.config.hop

    @property
    def piece_samples(self) -> int:
        """Samples after which positions start anew: longer audio is cut there, as the released code cuts it at 30 s."""
        return self.encoder.config.max_frames * CONV_STRIDE * self.log_mel.config.hop


def load(directory: Path, device: str = "cpu", dtype: torch.dtype = torch.float32) -> Checkpoint:
    """Loads the checkpoint in `directory`.

    Args:
        directory: the checkpoint.
        device: where it computes.
        dtype: what the encoder computes in, however the weights are stored. Features and codebook are float32.

    Raises:
        WeightsError: a file is missing or unreadable, or a tensor is missing, unknown or of the wrong shape.
    """
    for name in (CONFIG, PREPROCESSOR, MODEL):
        if not (directory / name).is_file():
            raise WeightsError(
                f"no {name} in {directory}; a tokenizer checkpoint has {CONFIG}, {PREPROCESSOR}, {MODEL}"
            )
    try:
        config = EncoderConfig.from_released(_read_json(directory / CONFIG))
    except ValueError as error:
        raise WeightsError(f"{directory / CONFIG}: {error}") from error
    try:
        features = FeatureConfig.from_released(_read_json(directory / PREPROCESSOR))
    except ValueError as error:
        raise WeightsError(f"{directory / PREPROCESSOR}: {error}") from error
    if features.bins != config.mel_bins:
        raise WeightsError(
            f"{directory}: {PREPROCESSOR} makes {features.bins} mel bins, {CONFIG} expects {config.mel_bins}"
        )
    with torch.device("meta"):
        encoder = WhisperVQEncoder(config)
    encoder.load_state_dict(_read_state(directory / MODEL, encoder, device, dtype), assign=True)
    encoder.requires_grad_(False)
    return Checkpoint(encoder.eval(), LogMel(features).to(device), _revision(directory))


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise WeightsError(f"cannot read {path}: {error}") from error
    if not isinstance(value, dict):
        raise WeightsError(f"{path} must hold a JSON object")
    return value


def _read_state(path: Path, encoder: WhisperVQEncoder, device: str, dtype: torch.dtype) -> dict[str, Tensor]:
    wanted = {key: tuple(tensor.shape) for key, tensor in encoder.state_dict().items()}
    state: dict[str, Tensor] = {}
    try:
        with safe_open(path, framework="pt") as file:
            for key in _needed(file.keys(), encoder.config.layers):
                name = key.removeprefix(PREFIX)
                if name not in wanted:
                    raise WeightsError(f"{path}: {key} is unknown to this architecture")
                tensor: Tensor = file.get_tensor(key)
                if tuple(tensor.shape) != wanted[name]:
                    raise WeightsError(
                        f"{path}: {key} has shape {tuple(tensor.shape)}, {CONFIG} asks for {wanted[name]}"
                    )
                # One tensor at a time, so that no second copy of the model is held.
                state[name] = tensor.to(device, torch.float32 if name == _CODEBOOK else dtype)
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"cannot read {path}: {error}") from error
    missing = sorted(wanted.keys() - state.keys())
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise WeightsError(f"{path}: {PREFIX}{missing[0]} is missing{more}")
    return state


def _needed(keys: Iterable[str], layers: int) -> list[str]:
    """Keys that encoding uses: not the Whisper decoder, nor what lies above the quantiser or served its training."""
    needed = []
    for key in keys:
        name = key.removeprefix(PREFIX)
        layer = _LAYER.match(name)
        if name == key or name.startswith(_UNUSED) or (layer and int(layer.group(1)) >= layers):
            continue
        needed.append(key)
    return needed


def _revision(directory: Path) -> str:
    digest = hashlib.sha256()
    for name in (CONFIG, PREPROCESSOR, MODEL):
        with (directory / name).open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:12]
