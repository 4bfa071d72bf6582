"""Reads a checkpoint in ChatGLM format: its architecture, and its tensors one at a time."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from services.common.errors import WeightsError
from services.lm.prompt import read_json

EMBEDDING = "transformer.embedding.word_embeddings.weight"
FINAL_NORM = "transformer.encoder.final_layernorm.weight"
OUTPUT = "transformer.output_layer.weight"
_LAYER = "transformer.encoder.layers."
_DROPPED = "transformer.rotary_pos_emb.inv_freq"

_ROPE_BASE = 10000.0
_SAMPLED_BLOCKS, _BLOCK_BYTES = 512, 65536
_WHOLE = (
    "num_layers", "hidden_size", "num_attention_heads", "kv_channels", "ffn_hidden_size", "padded_vocab_size",
    "seq_length",
)  # fmt: skip
_FIXED = {"rmsnorm": True, "post_layer_norm": True, "add_bias_linear": False, "add_qkv_bias": True}


def layer_name(layer: int, rest: str) -> str:
    """The released name of a tensor of one layer."""
    return f"{_LAYER}{layer}.{rest}"


@dataclass(frozen=True)
class Architecture:
    """What config.json says about the network.

    Attributes:
        size: of one head.
        ffn: width between the two projections of the feed-forward part.
        eps: added to the mean square in RMSNorm.
        rope_base: theta of the rotary embedding (Su et al. 2021), which turns half of each head.
        tied: the output layer is the embedding.
        context_length: tokens of the longest session.
        end_tokens: ids that end a text.
    """

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    size: int
    ffn: int
    vocabulary: int
    eps: float
    rope_base: float
    tied: bool
    context_length: int
    end_tokens: tuple[int, ...]

    @classmethod
    def from_config(cls, source: Mapping[str, Any]) -> "Architecture":
        """Reads the keys of a ChatGLM config.json.

        Raises:
            WeightsError: a key is missing or wrong, or the architecture is another one.
        """
        if source.get("model_type") != "chatglm":
            raise WeightsError(f"config.json: model_type is {source.get('model_type')!r}; 'chatglm' is supported")
        grouped = bool(source.get("multi_query_attention", False))
        for key in (*_WHOLE, *(("multi_query_group_num",) if grouped else ())):
            value = source.get(key)
            if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
                raise WeightsError(f"config.json: {key} must be a positive whole number (is {value!r})")
        for key in ("layernorm_epsilon", "rope_ratio"):
            value = source.get(key, 1 if key == "rope_ratio" else None)
            if not isinstance(value, int | float) or value <= 0:
                raise WeightsError(f"config.json: {key} must be a positive number (is {value!r})")
        for key, fixed in _FIXED.items():
            if source.get(key, fixed) != fixed:
                raise WeightsError(f"config.json: {key} is {source[key]!r}; only {fixed!r} is supported")
        heads, size = source["num_attention_heads"], source["kv_channels"]
        kv_heads = source["multi_query_group_num"] if grouped else heads
        if heads % kv_heads:
            raise WeightsError(f"config.json: {heads} heads cannot share {kv_heads} groups of keys and values evenly")
        if size % 4:
            raise WeightsError(f"config.json: kv_channels is {size}; it must be a multiple of 4")
        return cls(
            layers=source["num_layers"],
            hidden=source["hidden_size"],
            heads=heads,
            kv_heads=kv_heads,
            size=size,
            ffn=source["ffn_hidden_size"],
            vocabulary=source["padded_vocab_size"],
            eps=float(source["layernorm_epsilon"]),
            rope_base=_ROPE_BASE * float(source.get("rope_ratio", 1)),
            tied=bool(source.get("tie_word_embeddings", False)),
            context_length=source["seq_length"],
            end_tokens=_end_tokens(source),
        )

    @property
    def reach(self) -> float:
        """How many tokens it takes before attending to them costs as much arithmetic as all of a token's matrices."""
        projections = (2 * self.heads + 2 * self.kv_heads) * self.size
        matrices = self.hidden * (projections + 3 * self.ffn)
        return matrices / (2 * self.heads * self.size)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Released name -> shape of every tensor that a checkpoint must hold."""
        projections = (self.heads + 2 * self.kv_heads) * self.size
        shapes: dict[str, tuple[int, ...]] = {EMBEDDING: (self.vocabulary, self.hidden), FINAL_NORM: (self.hidden,)}
        if not self.tied:
            shapes[OUTPUT] = (self.vocabulary, self.hidden)
        each = {
            "input_layernorm.weight": (self.hidden,),
            "self_attention.query_key_value.weight": (projections, self.hidden),
            "self_attention.query_key_value.bias": (projections,),
            "self_attention.dense.weight": (self.hidden, self.heads * self.size),
            "post_attention_layernorm.weight": (self.hidden,),
            "mlp.dense_h_to_4h.weight": (2 * self.ffn, self.hidden),
            "mlp.dense_4h_to_h.weight": (self.hidden, self.ffn),
        }
        for layer in range(self.layers):
            shapes |= {layer_name(layer, rest): shape for rest, shape in each.items()}
        return shapes


@dataclass(frozen=True)
class Checkpoint:
    """A directory whose files fit together; the tensors themselves are still on disk.

    Attributes:
        revision: short hash that changes when the checkpoint does.
    """

    directory: Path
    architecture: Architecture
    files: tuple[Path, ...]
    revision: str

    def tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Every tensor with its released name, file by file.

        A tensor is a view of its file, which is mapped until the next file begins: copy what is to stay, and no more
        than one file's pages are in memory beside the copies.

        Raises:
            WeightsError: a file can no longer be read.
        """
        wanted = self.architecture.shapes()
        for file in self.files:
            try:
                with safe_open(file, framework="pt") as opened:
                    for name in opened.keys():  # noqa: SIM118 (not a dict)
                        if name in wanted:
                            yield name, opened.get_tensor(name)
            except (SafetensorError, OSError) as error:
                raise WeightsError(f"cannot read {file}: {error}") from error


def inspect(directory: Path) -> Checkpoint:
    """Checks a checkpoint by config.json and the headers of model.safetensors, or of the shards that its index names.

    No tensor is read, so what is wrong is told at once, however large the model.

    Raises:
        WeightsError: a file is missing, unreadable or of the wrong shape, or the architecture is another one.
    """
    architecture = Architecture.from_config(read_json(directory / "config.json"))
    files = _weight_files(directory)
    expected = architecture.shapes()
    skipped = {_DROPPED} | ({OUTPUT} if architecture.tied else set())
    found: set[str] = set()
    for file in files:
        for name, shape in _shapes(file):
            if name in skipped:
                continue
            if name not in expected:
                raise WeightsError(f"{file}: unexpected tensor {name}; not this ChatGLM language model?")
            if shape != expected[name]:
                raise WeightsError(f"{file}: {name} has shape {shape}, config.json asks for {expected[name]}")
            found.add(name)
    if absent := [name for name in expected if name not in found]:
        raise WeightsError(f"{directory}: {len(absent)} tensors are missing, the first is {absent[0]}")
    return Checkpoint(directory, architecture, tuple(files), _revision(directory, files))


def _end_tokens(source: Mapping[str, Any]) -> tuple[int, ...]:
    ids = source.get("eos_token_id")
    given = ids if isinstance(ids, list) else [] if ids is None else [ids]
    if not all(isinstance(token, int) and token >= 0 for token in given):
        raise WeightsError(f"config.json: eos_token_id must be an id or a list of ids (is {ids!r})")
    return tuple(given)


def _weight_files(directory: Path) -> list[Path]:
    single, index = directory / "model.safetensors", directory / "model.safetensors.index.json"
    if single.is_file():
        return [single]
    if not index.is_file():
        raise WeightsError(f"{directory} has neither model.safetensors nor model.safetensors.index.json")
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise WeightsError(f"{index} has no weight_map")
    files = [directory / str(name) for name in sorted(set(weight_map.values()))]
    for file in files:
        if not file.is_file():
            raise WeightsError(f"{index} names {file.name}, which is missing")
    return files


def _shapes(file: Path) -> list[tuple[str, tuple[int, ...]]]:
    try:
        with safe_open(file, framework="pt") as opened:
            return [(name, tuple(opened.get_slice(name).get_shape())) for name in opened.keys()]  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"cannot read {file}: {error}") from error


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
