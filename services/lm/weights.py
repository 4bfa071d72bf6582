"""Loads a checkpoint in ChatGLM format into transformers' GLM classes."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from transformers import GlmConfig, GlmForCausalLM
from transformers.models.glm.modeling_glm import GlmRotaryEmbedding

from services.common.errors import WeightsError
from services.lm.prompt import read_json

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_ROPE_BASE = 10000.0
_ROTARY_FRACTION = 0.5
_SAMPLED_BLOCKS, _BLOCK_BYTES = 512, 65536
_REQUIRED = (
    "num_layers", "hidden_size", "num_attention_heads", "kv_channels", "ffn_hidden_size", "padded_vocab_size",
    "layernorm_epsilon", "seq_length",
)  # fmt: skip
_FIXED = {"rmsnorm": True, "post_layer_norm": True, "add_bias_linear": False, "add_qkv_bias": True}
_TOP = {
    "transformer.embedding.word_embeddings.weight": "model.embed_tokens.weight",
    "transformer.encoder.final_layernorm.weight": "model.norm.weight",
    "transformer.output_layer.weight": "lm_head.weight",
}
_LAYER = {
    "input_layernorm.weight": "input_layernorm.weight",
    "post_attention_layernorm.weight": "post_attention_layernorm.weight",
    "self_attention.dense.weight": "self_attn.o_proj.weight",
    "mlp.dense_h_to_4h.weight": "mlp.gate_up_proj.weight",
    "mlp.dense_4h_to_h.weight": "mlp.down_proj.weight",
}
_FUSED = "self_attention.query_key_value."
_DROPPED = "transformer.rotary_pos_emb.inv_freq"


@dataclass(frozen=True)
class Checkpoint:
    """A loaded language model.

    Attributes:
        model: transformers' `GlmForCausalLM`, in evaluation mode.
        context_length: tokens of the longest session.
        end_tokens: ids that the config names as ends of a text.
        revision: short hash that changes when the checkpoint does.
    """

    model: Any
    context_length: int
    end_tokens: tuple[int, ...]
    revision: str


def load(directory: Path, dtype: str = "float32", device: str = "cpu") -> Checkpoint:
    """Reads config.json and model.safetensors (or the shards of model.safetensors.index.json).

    Each tensor is read, converted and moved by itself, so the model is never in memory twice.

    Raises:
        WeightsError: a file is missing, unreadable or of the wrong shape, or the architecture is another one.
    """
    source = read_json(directory / "config.json")
    config = _glm_config(source)
    files = _weight_files(directory)
    with torch.device("meta"):
        model = GlmForCausalLM(config)
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    state: dict[str, torch.Tensor] = {}
    for name, tensor in _read(files, _kv_rows(source), device):
        if name not in expected:
            raise WeightsError(f"{directory}: unexpected tensor, would be {name}")
        if tuple(tensor.shape) != expected[name]:
            raise WeightsError(
                f"{directory}: {name} has shape {tuple(tensor.shape)}, config.json asks for {expected[name]}"
            )
        state[name] = tensor.to(DTYPES[dtype])
    if config.tie_word_embeddings and "model.embed_tokens.weight" in state:
        state["lm_head.weight"] = state["model.embed_tokens.weight"]
    if absent := sorted(expected.keys() - state.keys()):
        raise WeightsError(f"{directory}: {len(absent)} tensors are missing, the first is {absent[0]}")
    model.load_state_dict(state, assign=True)
    # Its buffer is not part of a checkpoint, so it was left on the meta device.
    model.model.rotary_emb = GlmRotaryEmbedding(config).to(device)
    model.requires_grad_(False)
    model.eval()
    return Checkpoint(
        model=model,
        context_length=int(source["seq_length"]),
        end_tokens=_end_tokens(source),
        revision=_revision(directory, files),
    )


def _glm_config(source: Mapping[str, Any]) -> Any:
    if source.get("model_type") != "chatglm":
        raise WeightsError(f"config.json: model_type is {source.get('model_type')!r}; 'chatglm' is supported")
    for key in _REQUIRED:
        if not isinstance(source.get(key), int | float) or source[key] <= 0:
            raise WeightsError(f"config.json: {key} must be a positive number (is {source.get(key)!r})")
    for key, value in _FIXED.items():
        if source.get(key, value) != value:
            raise WeightsError(f"config.json: {key} is {source[key]!r}; only {value!r} is supported")
    return GlmConfig(
        vocab_size=source["padded_vocab_size"],
        hidden_size=source["hidden_size"],
        intermediate_size=source["ffn_hidden_size"],
        num_hidden_layers=source["num_layers"],
        num_attention_heads=source["num_attention_heads"],
        num_key_value_heads=_kv_heads(source),
        head_dim=source["kv_channels"],
        max_position_embeddings=source["seq_length"],
        rms_norm_eps=source["layernorm_epsilon"],
        tie_word_embeddings=bool(source.get("tie_word_embeddings", False)),
        rope_parameters={
            "rope_type": "default",
            "rope_theta": _ROPE_BASE * float(source.get("rope_ratio", 1)),
            "partial_rotary_factor": _ROTARY_FRACTION,
        },
        attention_bias=True,
        pad_token_id=None,
        eos_token_id=list(_end_tokens(source)),
    )


def _kv_heads(source: Mapping[str, Any]) -> int:
    grouped = bool(source.get("multi_query_attention", False))
    return int(source["multi_query_group_num"] if grouped else source["num_attention_heads"])


def _kv_rows(source: Mapping[str, Any]) -> int:
    return _kv_heads(source) * int(source["kv_channels"])


def _end_tokens(source: Mapping[str, Any]) -> tuple[int, ...]:
    ids = source.get("eos_token_id") or []
    return tuple(ids) if isinstance(ids, list) else (int(ids),)


def _weight_files(directory: Path) -> list[Path]:
    single, index = directory / "model.safetensors", directory / "model.safetensors.index.json"
    if single.is_file():
        return [single]
    if not index.is_file():
        raise WeightsError(f"{directory} has neither model.safetensors nor model.safetensors.index.json")
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise WeightsError(f"{index} has no weight_map")
    files = [directory / name for name in sorted(set(weight_map.values()))]
    for file in files:
        if not file.is_file():
            raise WeightsError(f"{index} names {file.name}, which is missing")
    return files


def _read(files: list[Path], kv_rows: int, device: str) -> Iterator[tuple[str, torch.Tensor]]:
    for file in files:
        try:
            with safe_open(file, framework="pt", device=device) as tensors:
                for key in tensors.keys():  # noqa: SIM118 (not a dict)
                    yield from _mapped(key, tensors.get_tensor(key), kv_rows)
        except (SafetensorError, OSError) as error:
            raise WeightsError(f"cannot read {file}: {error}") from error


def _mapped(key: str, tensor: torch.Tensor, kv_rows: int) -> Iterator[tuple[str, torch.Tensor]]:
    """The name or names that a released tensor has in transformers' model; attention's input is split by rows."""
    if key == _DROPPED:
        return
    if key in _TOP:
        yield _TOP[key], tensor
        return
    start = "transformer.encoder.layers."
    number, _, rest = key.removeprefix(start).partition(".")
    layer = f"model.layers.{number}."
    if key.startswith(start) and rest in _LAYER:
        yield layer + _LAYER[rest], tensor
    elif key.startswith(start) and rest.startswith(_FUSED):
        kind = rest.removeprefix(_FUSED)
        rows = tensor.shape[0]
        if rows <= 2 * kv_rows:
            raise WeightsError(f"{key} has {rows} rows, config.json asks for more than {2 * kv_rows}")
        for name, part in zip("qkv", torch.split(tensor, [rows - 2 * kv_rows, kv_rows, kv_rows]), strict=True):
            yield f"{layer}self_attn.{name}_proj.{kind}", part
    else:
        raise WeightsError(f"unexpected tensor {key}: not a ChatGLM language model?")


def _revision(directory: Path, files: list[Path]) -> str:
    """Hashes the small files and evenly spread blocks of the large ones: quick for any size."""
    digest = hashlib.sha256()
    for name in ("config.json", "tokenizer.model", "tokenizer_config.json"):
        path = directory / name
        digest.update(path.read_bytes() if path.is_file() else b"")
    for file in files:
        size = file.stat().st_size
        digest.update(json.dumps([file.name, size]).encode())
        with file.open("rb") as stream:
            step = max(size // _SAMPLED_BLOCKS, _BLOCK_BYTES)
            for start in range(0, size, step):
                stream.seek(start)
                digest.update(stream.read(_BLOCK_BYTES))
    return digest.hexdigest()[:12]
