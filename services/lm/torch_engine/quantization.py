"""int4 weight-only: weights in four bits with a scale and a zero per group, activations as they were (torchao)."""

import torch
from torch import nn

# Larger groups cost less memory; a group must divide the row.
_GROUPS = (128, 64, 32)


def quantized(weight: torch.Tensor) -> torch.Tensor:
    """A tensor that `F.linear` takes for `weight`, (out, in), in about 4.25 bits a value.

    It is packed for the tinygemm kernels of the weight's device: CPU, or CUDA from compute capability 8.0 on. A weight
    whose rows cannot be cut into groups comes back as it is.

    Raises:
        ValueError: the device has no such kernel.
    """
    from torchao.prototype.quantization.int4 import PrototypeInt4WeightOnlyConfig
    from torchao.quantization import Int4WeightOnlyConfig, quantize_

    rows, length = weight.shape
    group = next((size for size in _GROUPS if length % size == 0), None)
    if group is None:
        return weight
    if weight.device.type == "cpu":
        config = PrototypeInt4WeightOnlyConfig(group_size=group, set_inductor_config=False)
    else:
        config = Int4WeightOnlyConfig(
            group_size=group, int4_packing_format="tile_packed_to_4d", set_inductor_config=False
        )
    linear = nn.Linear(length, rows, bias=False, device="meta")
    linear.weight = nn.Parameter(weight, requires_grad=False)
    quantize_(linear, config)
    return linear.weight.data
