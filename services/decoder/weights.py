"""Reads a checkpoint directory of the released layout: config.yaml, and flow and hift as .pt or .safetensors."""

import hashlib
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from services.common.errors import WeightsError
from services.decoder import config as decoder_config
from services.decoder.config import DecoderConfig
from services.decoder.flow.model import TokenToMel
from services.decoder.vocoder import hift

_NORMED = (("weight_g", "weight_v"), ("parametrizations.weight.original0", "parametrizations.weight.original1"))


@dataclass(frozen=True)
class Checkpoint:
    """The two models, ready to infer, and what names them."""

    config: DecoderConfig
    flow: TokenToMel
    vocoder: hift.HiFTGenerator
    revision: str

    def sampled(self, flow_steps: int | None = None, temperature: float | None = None) -> "Checkpoint":
        """The same models with another way to sample; none keeps what config.yaml says."""
        given = {"n_timesteps": flow_steps, "temperature": temperature}
        changes = {name: value for name, value in given.items() if value is not None}
        inference = self.config.inference.model_copy(update=changes)
        return replace(self, config=self.config.model_copy(update={"inference": inference}))


def load(folder: Path, device: str = "cpu") -> Checkpoint:
    """Loads the decoder from `folder`, in float32.

    Raises:
        WeightsError: a file is missing or unreadable, or does not fit config.yaml; names the file and the tensor.
    """
    if not folder.is_dir():
        raise WeightsError(f"{folder}: no such directory; it must hold config.yaml, flow.pt and hift.pt")
    described = folder / "config.yaml"
    if not described.is_file():
        raise WeightsError(f"{folder}: config.yaml is missing")
    files = [_one_of(folder, "flow"), _one_of(folder, "hift")]
    config = decoder_config.read(described)
    flow, vocoder = build(config)
    for model, path in ((flow, files[0]), (vocoder, files[1])):
        _fill(model, fold_weight_norm(_read(path)), path)
        model.to(device).eval().requires_grad_(False)
    digest = hashlib.sha256()
    for path in (described, *files):
        digest.update(path.read_bytes())
    return Checkpoint(config, flow, vocoder, digest.hexdigest()[:12])


def build(config: DecoderConfig) -> tuple[TokenToMel, hift.HiFTGenerator]:
    """Both models with fresh parameters.

    Raises:
        WeightsError: the sizes do not go together.
    """
    vocoder = hift.build(config.hift)
    if config.hift.sampling_rate != config.sample_rate:
        raise WeightsError("config.yaml: hift.sampling_rate differs from sample_rate")
    return TokenToMel(config.flow, Fraction(config.sample_rate, vocoder.hop)), vocoder


def fold_weight_norm(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Replaces each pair g, v (either of torch's two namings) by the weight g * v / |v|."""
    folded = dict(state)
    for g_name, v_name in _NORMED:
        for key in [key for key in folded if key.endswith(f".{g_name}")]:
            prefix = key[: -len(g_name)]
            v_key = prefix + v_name
            if v_key not in folded:
                continue  # reported as a missing weight
            g, v = folded.pop(key), folded.pop(v_key)
            norm = v.flatten(1).norm(dim=1).view(-1, *[1] * (v.ndim - 1))
            folded[prefix + "weight"] = g * v / norm
    return folded


def _one_of(folder: Path, stem: str) -> Path:
    for suffix in (".safetensors", ".pt"):
        path = folder / (stem + suffix)
        if path.is_file():
            return path
    raise WeightsError(f"{folder}: {stem}.pt (or {stem}.safetensors) is missing")


def _read(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            state: object = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, ValueError, pickle.UnpicklingError, SafetensorError) as error:
        raise WeightsError(f"{path}: cannot be read as a checkpoint: {_first_line(error)}") from error
    if not isinstance(state, dict) or not all(isinstance(item, Tensor) for item in state.values()):
        raise WeightsError(f"{path}: must hold a mapping of names to tensors")
    return state


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def _fill(model: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    own = model.state_dict()
    missing = sorted(own.keys() - state.keys())
    if missing:
        raise WeightsError(f"{path}: {len(missing)} tensors are missing, the first is {missing[0]}")
    unknown = sorted(state.keys() - own.keys())
    if unknown:
        raise WeightsError(f"{path}: {len(unknown)} tensors are not of this model, the first is {unknown[0]}")
    for name, tensor in own.items():
        if state[name].shape != tensor.shape:
            found, wanted = tuple(state[name].shape), tuple(tensor.shape)
            raise WeightsError(f"{path}: {name} has shape {found}, config.yaml asks for {wanted}")
    model.load_state_dict({name: item.float() for name, item in state.items()})
