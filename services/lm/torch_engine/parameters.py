"""The network's parameters where they are computed with, filled tensor by tensor from a checkpoint."""

from dataclasses import dataclass

import torch

from services.lm.torch_engine.quantization import quantized
from services.lm.weights import EMBEDDING, FINAL_NORM, OUTPUT, Architecture, Checkpoint, layer_name

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_PROJECTIONS = ("query_key_value.weight", "dense.weight", "dense_h_to_4h.weight", "dense_4h_to_h.weight")


@dataclass(frozen=True)
class Layer:
    """The parameters of one layer; query, key and value projections are one matrix, as are gate and up."""

    norm: torch.Tensor
    qkv: torch.Tensor
    qkv_bias: torch.Tensor
    out: torch.Tensor
    mlp_norm: torch.Tensor
    gate_up: torch.Tensor
    down: torch.Tensor


@dataclass(frozen=True)
class Parameters:
    """A loaded network. Matrices are (out, in), whatever their layout in memory."""

    architecture: Architecture
    embedding: torch.Tensor
    layers: tuple[Layer, ...]
    norm: torch.Tensor
    head: torch.Tensor

    @property
    def dtype(self) -> torch.dtype:
        """Number format of the activations."""
        return self.embedding.dtype

    @property
    def device(self) -> torch.device:
        """Where the network computes."""
        return self.embedding.device


def load(
    checkpoint: Checkpoint, dtype: torch.dtype, device: torch.device | str = "cpu", int4: bool = False
) -> Parameters:
    """Reads every tensor straight into its place, converted on the way, so the model is never in memory twice.

    Args:
        int4: the layers' matrices in four bits; embedding, output layer, norms and biases stay in `dtype`.

    Raises:
        WeightsError: a file can no longer be read.
        ValueError: the device cannot compute in int4.
    """
    placed: dict[str, torch.Tensor] = {}
    for name, tensor in checkpoint.tensors():
        if int4 and name.endswith(_PROJECTIONS):
            placed[name] = quantized(tensor.to(device, dtype, copy=True))
        elif tensor.dim() == 2 and name != EMBEDDING and torch.device(device).type == "cpu":
            placed[name] = _by_columns(tensor, dtype)
        else:
            placed[name] = tensor.to(device, dtype, copy=True)
    architecture = checkpoint.architecture

    def layer(number: int) -> Layer:
        def at(rest: str) -> torch.Tensor:
            return placed[layer_name(number, rest)]

        return Layer(
            norm=at("input_layernorm.weight"),
            qkv=at("self_attention.query_key_value.weight"),
            qkv_bias=at("self_attention.query_key_value.bias"),
            out=at("self_attention.dense.weight"),
            mlp_norm=at("post_attention_layernorm.weight"),
            gate_up=at("mlp.dense_h_to_4h.weight"),
            down=at("mlp.dense_4h_to_h.weight"),
        )

    return Parameters(
        architecture=architecture,
        embedding=placed[EMBEDDING],
        layers=tuple(layer(number) for number in range(architecture.layers)),
        norm=placed[FINAL_NORM],
        head=placed[EMBEDDING] if architecture.tied else placed[OUTPUT],
    )


def _by_columns(matrix: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """The same matrix, stored by columns: on the CPU, products with a few rows are a third faster so."""
    rows, columns = matrix.shape
    stored = torch.empty(columns, rows, dtype=dtype)
    stored.copy_(matrix.t())
    return stored.t()
