"""Kokoro's vocoder, taken out of the quantised ONNX graph and computed in bf16: a third of the time on CPUs with AMX.

The graph is cut in three: what comes before the vocoder's network (text, prosody, harmonic source), the network itself
(iSTFTNet, Kaneko et al. 2022, with StyleTTS 2's adaptive instance normalisation), and the inverse STFT.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import torch
import torch.nn.functional as F
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from torch import Tensor

Waveform = npt.NDArray[np.float32]

_HERE = "/decoder/decoder/generator/"
_LATENT = "/decoder/decoder/decode.3/Div_4_output_0"
_SOURCE = f"{_HERE}Concat_3_output_0"
_SPECTRUM = f"{_HERE}conv_post/Conv_output_0"
_DILATIONS = (1, 3, 5)
_UPSAMPLING = (10, 6)
_PADDING = (5, 3)
_KERNELS = 3  # residual blocks side by side at each rate
_NOISE_STRIDES, _NOISE_PADDING = (6, 1), (3, 0)
_EPSILON = 1e-5


class Kokoro:
    """The model as a whole: phonemes, style and speed to a waveform.

    Args:
        raw: the ONNX file's bytes.
        options: of onnxruntime's sessions.
    """

    def __init__(self, raw: bytes, options: onnxruntime.SessionOptions) -> None:
        model = onnx.load_model_from_string(raw)
        self._network = _Network(model)
        before, after, passed = _cut(model, [_LATENT, _SOURCE, *self._network.styles])
        self._before = onnxruntime.InferenceSession(before.SerializeToString(), options, ["CPUExecutionProvider"])
        self._after = onnxruntime.InferenceSession(after.SerializeToString(), options, ["CPUExecutionProvider"])
        self._outputs = [output.name for output in self._before.get_outputs()]
        self._passed = passed

    def run(self, inputs: dict[str, npt.NDArray[Any]]) -> Waveform:
        """24 kHz speech of `tokens` (1, n), `style` (1, 256), `speed` (1,)."""
        found = dict(zip(self._outputs, self._before.run(self._outputs, inputs), strict=True))
        spectrum = self._network(found)
        rest = {name: found[name] for name in self._passed}
        wave = self._after.run(None, {_SPECTRUM: spectrum, **rest})[0]
        return np.asarray(wave, np.float32).ravel()


class _Network:
    def __init__(self, model: ModelProto) -> None:
        self._arrays = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
        self._made = {output: node for node in model.graph.node for output in node.output}
        blocks = ["noise_res.0", "noise_res.1", *(f"resblocks.{i}" for i in range(2 * _KERNELS))]
        self.styles = [
            f"{_HERE}{block}/adain{half}.{i}/fc/Gemm_output_0" for block in blocks for half in (1, 2) for i in range(3)
        ]
        self._convs = {name: self._conv(name) for name in self._names(blocks)}
        self._alphas = {
            f"{block}.alpha{half}.{i}": torch.from_numpy(self._array(f"{block}.alpha{half}.{i}").copy())[..., None]
            for block in blocks
            for half in (1, 2)
            for i in range(3)
        }

    @staticmethod
    def _names(blocks: list[str]) -> list[str]:
        residual = [f"{block}/convs{half}.{i}" for block in blocks for half in (1, 2) for i in range(3)]
        return [*residual, "noise_convs.0", "noise_convs.1", "ups.0", "ups.1", "conv_post"]

    def _array(self, name: str) -> npt.NDArray[Any]:
        return self._arrays[f"decoder.decoder.generator.{name}"]

    def _conv(self, name: str) -> tuple[Tensor, Tensor]:
        """Weight and bias of a convolution; quantised ones as the numbers they stand for."""
        kind = "ConvTranspose" if name.startswith("ups") else "Conv"
        bias = torch.from_numpy(self._array(f"{name.replace('/', '.')}.bias").copy())
        output = f"{_HERE}{name}/{kind}_output_0"
        node = self._made[output]
        if node.op_type == kind:
            return _kernel(self._value(node.input[1])), bias.bfloat16()
        while node.op_type != "ConvInteger":  # behind its scale, its cast and its bias
            node = self._made[next(i for i in node.input if i in self._made and self._leads_to_conv(i))]
        stem = node.input[1].removesuffix("_quantized")
        scale, zero = self._arrays[f"{stem}_scale"], self._arrays[node.input[3]]
        weight = (self._arrays[node.input[1]].astype(np.float32) - zero) * scale
        return _kernel(weight.astype(np.float32)), bias.bfloat16()

    def _leads_to_conv(self, name: str) -> bool:
        node = self._made[name]
        return node.op_type == "ConvInteger" or (
            node.op_type in ("Cast", "Add") and any(self._leads_to_conv(i) for i in node.input if i in self._made)
        )

    def _value(self, name: str) -> npt.NDArray[np.float32]:
        if name in self._arrays:
            return np.array(self._arrays[name], np.float32)
        node = self._made[name]
        inputs = [self._value(i) for i in node.input]
        if node.op_type == "DequantizeLinear":
            values, scale, zero = inputs
            return np.asarray((values - zero) * scale, np.float32)
        if node.op_type == "Mul":
            return np.asarray(inputs[0] * inputs[1], np.float32)
        raise ValueError(f"{name}: a weight made by {node.op_type}")

    @torch.inference_mode()
    def __call__(self, found: dict[str, npt.NDArray[Any]]) -> npt.NDArray[np.float32]:
        styles = {name: torch.from_numpy(found[name]) for name in self.styles}
        x, source = _columns(found[_LATENT]), _columns(found[_SOURCE])
        for i, (rate, padding) in enumerate(zip(_UPSAMPLING, _PADDING, strict=True)):
            heard = self._convolve(source, f"noise_convs.{i}", _NOISE_STRIDES[i], _NOISE_PADDING[i])
            heard = self._block(heard, f"noise_res.{i}", styles)
            weight, bias = self._convs[f"ups.{i}"]
            x = F.conv_transpose2d(F.leaky_relu(x, 0.1), weight, bias, (1, rate), (0, padding))
            if i == len(_UPSAMPLING) - 1:
                x = torch.cat([x[..., 1:2], x], -1)  # reflection
            x = x + heard
            branches = [self._block(x, f"resblocks.{i * _KERNELS + k}", styles) for k in range(_KERNELS)]
            x = (branches[0] + branches[1] + branches[2]) / _KERNELS
        return self._convolve(F.leaky_relu(x, 0.01), "conv_post", 1, 3)[:, :, 0].float().numpy()

    def _convolve(self, x: Tensor, name: str, stride: int, padding: int, dilation: int = 1) -> Tensor:
        return F.conv2d(x, *self._convs[name], (1, stride), (0, padding), (1, dilation))

    def _block(self, x: Tensor, name: str, styles: dict[str, Tensor]) -> Tensor:
        for i, dilation in enumerate(_DILATIONS):
            inner = x
            for half, spread in ((1, dilation), (2, 1)):
                style = styles[f"{_HERE}{name}/adain{half}.{i}/fc/Gemm_output_0"]
                inner = _snake(_adapted(inner, style), self._alphas[f"{name}.alpha{half}.{i}"])
                conv = f"{name}/convs{half}.{i}"
                padding = spread * (self._convs[conv][0].shape[-1] - 1) // 2
                inner = self._convolve(inner, conv, 1, padding, spread)
            x = x + inner
        return x


def _kernel(weight: npt.NDArray[np.float32]) -> Tensor:
    return torch.from_numpy(weight).bfloat16()[:, :, None].contiguous(memory_format=torch.channels_last)


def _columns(values: npt.NDArray[np.float32]) -> Tensor:
    """(1, channels, time) as (1, channels, 1, time), channels side by side in memory, as convolutions want it."""
    return torch.from_numpy(values).bfloat16()[:, :, None].contiguous(memory_format=torch.channels_last)


def _adapted(x: Tensor, style: Tensor) -> Tensor:
    """Adaptive instance normalisation; the sums are kept in float."""
    gain, offset = style[..., None, None].chunk(2, 1)
    mean = x.mean(-1, keepdim=True, dtype=torch.float32)
    variance = (x - mean.bfloat16()).square_().mean(-1, keepdim=True, dtype=torch.float32)
    scale = (1 + gain) / torch.sqrt(variance + _EPSILON)
    return torch.addcmul((offset - mean * scale).bfloat16(), x, scale.bfloat16())


def _snake(x: Tensor, alpha: Tensor) -> Tensor:
    return torch.addcmul(x, torch.sin(x * alpha.bfloat16()).square_(), (1 / alpha).bfloat16())


def _cut(model: ModelProto, wanted: list[str]) -> tuple[ModelProto, ModelProto, list[str]]:
    """The graph before the vocoder's network, the one behind it, and which tensors go past from one to the other."""
    graph = model.graph
    behind: set[str] = {_SPECTRUM}
    later: list[NodeProto] = []
    for node in graph.node:  # in topological order
        if _SPECTRUM not in node.output and behind.intersection(node.input):
            behind.update(node.output)
            later.append(node)
    constants = {item.name for item in graph.initializer}
    needed = {name for node in later for name in node.input if name} - behind - constants
    passed = sorted(needed)
    before = _part(model, [*wanted, *passed], [item for item in graph.node if item not in later], list(graph.input))
    types = _types(before)
    inputs = [helper.make_tensor_value_info(name, types.get(name, TensorProto.FLOAT), None) for name in passed]
    inputs.append(helper.make_tensor_value_info(_SPECTRUM, TensorProto.FLOAT, None))
    after = _part(model, [output.name for output in graph.output], later, inputs)
    return before, after, passed


def _types(model: ModelProto) -> dict[str, int]:
    inferred = onnx.shape_inference.infer_shapes(model)
    values = [*inferred.graph.value_info, *inferred.graph.output]
    return {value.name: value.type.tensor_type.elem_type for value in values if value.type.tensor_type.elem_type}


def _part(model: ModelProto, outputs: list[str], nodes: list[NodeProto], inputs: list[Any]) -> ModelProto:
    needed, kept = set(outputs), []
    for node in reversed(nodes):
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(node.input)
    kept.reverse()
    constants = [item for item in model.graph.initializer if item.name in needed]
    ends = [onnx.ValueInfoProto(name=name) for name in outputs]
    graph = helper.make_graph(kept, "part", inputs, ends, constants)
    part = helper.make_model(graph, opset_imports=model.opset_import)
    part.ir_version = model.ir_version
    return part
