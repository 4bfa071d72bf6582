"""A checkpoint loads, or says in a line what is wrong with it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from services.common.errors import WeightsError
from services.tokenizer.streaming import Utterance, encode
from services.tokenizer.weights import CONFIG, MODEL, PREFIX, PREPROCESSOR, load
from services.tokenizer.whole import tokenise
from tests.unit.tokenizer.checkpoint import noise, random_state, write


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return write(tmp_path)


def change_tensors(directory: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(directory / MODEL)
    change(tensors)
    save_file(tensors, directory / MODEL)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_single(tmp_path: Path, dtype: torch.dtype) -> None:
    encoder = load(write(tmp_path, dtype=dtype)).encoder
    for key, value in random_state().items():
        loaded = encoder.state_dict()[key]
        assert loaded.dtype is torch.float32
        torch.testing.assert_close(loaded, value.to(dtype).float(), atol=0, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_precision_is_that_of_the_encoder_alone(directory: Path, dtype: torch.dtype) -> None:
    checkpoint = load(directory, dtype=dtype)
    for key, value in checkpoint.encoder.state_dict().items():
        assert value.dtype is (torch.float32 if key == "codebook.weight" else dtype), key
    assert checkpoint.log_mel.window.dtype is torch.float32
    sound = noise(40_000, seed=2)
    (exact,) = tokenise(load(directory), [sound])
    utterance = Utterance(checkpoint)
    utterance.push(sound)
    utterance.end()
    rounded: list[int] = []
    while utterance.due is not None:
        rounded += encode(checkpoint, [utterance])[0].ids
    assert rounded == tokenise(checkpoint, [sound])[0]
    equal = sum(one == other for one, other in zip(rounded, exact, strict=True))
    assert equal / len(exact) > 0.8


def test_what_encoding_does_not_need_is_skipped(directory: Path) -> None:
    def add(tensors: dict[str, torch.Tensor]) -> None:
        for name in ("layers.2.fc1.weight", "layers.10.fc1.weight", "layer_norm.bias", "embed_positions2.weight"):
            tensors[PREFIX + name] = torch.zeros(3)
        tensors[PREFIX + "ema_count"] = torch.zeros(3)
        tensors[PREFIX + "ema_weight"] = torch.zeros(3)
        tensors["model.decoder.layers.0.fc1.weight"] = torch.zeros(3)
        tensors["proj_out.weight"] = torch.zeros(3)

    change_tensors(directory, add)
    assert load(directory).encoder.state_dict().keys() == random_state().keys()


@pytest.mark.parametrize("name", [CONFIG, PREPROCESSOR, MODEL])
def test_a_missing_file_is_named(directory: Path, name: str) -> None:
    (directory / name).unlink()
    with pytest.raises(WeightsError, match=f"no {name} in {directory}"):
        load(directory)


@pytest.mark.parametrize("name", [CONFIG, PREPROCESSOR, MODEL])
@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b'{"a": ', b"\x08\0\0\0\0\0\0\0{}      "])
def test_a_broken_file_is_named(directory: Path, name: str, content: bytes) -> None:
    (directory / name).write_bytes(content)
    with pytest.raises(WeightsError, match=name):
        load(directory)


def test_a_truncated_model_is_an_error(directory: Path) -> None:
    whole = (directory / MODEL).read_bytes()
    (directory / MODEL).write_bytes(whole[:-1])
    with pytest.raises(WeightsError, match=f"cannot read .*{MODEL}"):
        load(directory)


@pytest.mark.parametrize("name", [CONFIG, PREPROCESSOR])
def test_a_configuration_is_an_object(directory: Path, name: str) -> None:
    (directory / name).write_text("[]")
    with pytest.raises(WeightsError, match=f"{name} must hold a JSON object"):
        load(directory)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"d_model": None}, "d_model must be a whole number, is None"),
        ({"quantize_position": 2.0}, r"quantize_position must be a whole number, is 2\.0"),
        ({"quantize_vocab_size": True}, "quantize_vocab_size must be a whole number, is True"),
        ({"quantize_vocab_size": 0}, "codes must be at least 1, is 0"),
        ({"encoder_attention_heads": 3}, "d_model 32 is not a multiple of 3 attention heads"),
        ({"quantize_causal_block_size": 18}, "block_frames 18 is not a multiple of the pooling kernel 4"),
        ({"max_source_positions": 1501}, "max_frames 1501 is not a multiple of the pooling kernel 4"),
        ({"pooling_position": 1}, "pooling_position and quantize_position must be the same layer"),
        ({"encoder_causal_convolution": False}, "encoder_causal_convolution must be True, is False"),
        ({"pooling_type": "max"}, "pooling_type must be 'avg', is 'max'"),
    ],
)
def test_a_configuration_that_cannot_be_is_explained(tmp_path: Path, config: dict[str, Any], message: str) -> None:
    with pytest.raises(WeightsError, match=f"{CONFIG}: {message}"):
        load(write(tmp_path, config=config))


@pytest.mark.parametrize(
    ("preprocessor", "message"),
    [
        ({"hop_length": None}, "hop_length must be a positive whole number, is None"),
        ({"sampling_rate": 0}, "sampling_rate must be a positive whole number, is 0"),
        ({"n_fft": 401}, "n_fft 401 must be even and at least twice hop_length 160"),
        ({"n_fft": 256}, "n_fft 256 must be even and at least twice hop_length 160"),
        ({"log_mel_max": "loud"}, "log_mel_max must be a number, is 'loud'"),
        ({"feature_size": 80}, "makes 80 mel bins, config.json expects 16"),
    ],
)
def test_features_that_cannot_be_are_explained(tmp_path: Path, preprocessor: dict[str, Any], message: str) -> None:
    with pytest.raises(WeightsError, match=f"{PREPROCESSOR}.* {message}"):
        load(write(tmp_path, preprocessor=preprocessor))


def test_a_missing_tensor_is_named(directory: Path) -> None:
    change_tensors(directory, lambda tensors: tensors.pop(PREFIX + "codebook.weight"))
    with pytest.raises(WeightsError, match=r"model\.encoder\.codebook\.weight is missing$"):
        load(directory)


def test_a_model_of_something_else_is_an_error(directory: Path) -> None:
    save_file({"transformer.output_layer.weight": torch.zeros(2, 2)}, directory / MODEL)
    with pytest.raises(WeightsError, match=rf"{MODEL}: model\.encoder\.codebook\.weight is missing and \d+ more"):
        load(directory)


def test_an_unknown_tensor_is_named(directory: Path) -> None:
    def add(tensors: dict[str, torch.Tensor]) -> None:
        tensors[PREFIX + "layers.0.self_attn.k_proj.bias"] = torch.zeros(32)

    change_tensors(directory, add)
    with pytest.raises(WeightsError, match=r"layers\.0\.self_attn\.k_proj\.bias is unknown to this architecture"):
        load(directory)


def test_a_tensor_of_another_shape_is_named_with_both_shapes(directory: Path) -> None:
    config = json.loads((directory / CONFIG).read_text())
    (directory / CONFIG).write_text(json.dumps({**config, "quantize_vocab_size": 1024}))
    with pytest.raises(WeightsError, match=r"codebook\.weight has shape \(128, 32\), config\.json asks for \(1024, 32"):
        load(directory)


@pytest.mark.parametrize("name", [CONFIG, PREPROCESSOR])
def test_the_revision_changes_with_the_configuration(directory: Path, name: str) -> None:
    before = load(directory).revision
    assert load(directory).revision == before
    (directory / name).write_text((directory / name).read_text() + "\n")
    assert load(directory).revision != before


def test_the_revision_changes_with_the_weights(directory: Path) -> None:
    before = load(directory).revision
    change_tensors(directory, lambda tensors: tensors[PREFIX + "conv1.bias"].add_(1.0))
    assert load(directory).revision != before
