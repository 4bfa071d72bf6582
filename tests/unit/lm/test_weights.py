import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from services.common.errors import WeightsError
from services.lm import weights


@pytest.fixture
def directory(tmp_path: Path, golden_dir: Path) -> Path:
    for name in ("config.json", "model.safetensors"):
        shutil.copy(golden_dir / "lm" / name, tmp_path)
    return tmp_path


def edit_config(directory: Path, **changes: object) -> None:
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def split_in_shards(directory: Path) -> None:
    tensors = load_file(directory / "model.safetensors")
    names = sorted(tensors)
    shards = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, keys in shards.items():
        save_file({key: tensors[key] for key in keys}, directory / file)
    weight_map = {key: file for file, keys in shards.items() for key in keys}
    (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    (directory / "model.safetensors").unlink()


def tensors(directory: Path) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in weights.inspect(directory).tensors()}


def test_shards_are_the_same_model(directory: Path) -> None:
    whole = tensors(directory)
    split_in_shards(directory)
    shards = tensors(directory)
    assert whole.keys() == shards.keys() == weights.inspect(directory).architecture.shapes().keys()
    assert all(torch.equal(tensor, shards[name]) for name, tensor in whole.items())


def test_tied_output_layer(directory: Path) -> None:
    stored = load_file(directory / "model.safetensors")
    del stored[weights.OUTPUT]
    save_file(stored, directory / "model.safetensors")
    with pytest.raises(WeightsError, match=r"1 tensors are missing, the first is transformer.output_layer.weight"):
        weights.inspect(directory)
    edit_config(directory, tie_word_embeddings=True)
    assert weights.inspect(directory).architecture.tied
    assert weights.OUTPUT not in tensors(directory)


def test_revision_changes_with_the_weights_and_the_config(directory: Path) -> None:
    first = weights.inspect(directory).revision
    assert weights.inspect(directory).revision == first
    tensors = load_file(directory / "model.safetensors")
    tensors["transformer.output_layer.weight"][7, 7] += 1
    save_file(tensors, directory / "model.safetensors")
    second = weights.inspect(directory).revision
    edit_config(directory, seq_length=512)
    assert len({first, second, weights.inspect(directory).revision}) == 3


def test_no_weight_file(directory: Path) -> None:
    (directory / "model.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"neither model.safetensors nor"):
        weights.inspect(directory)


def test_missing_shard_is_named(directory: Path) -> None:
    split_in_shards(directory)
    (directory / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"model-00002-of-00002.safetensors, which is missing"):
        weights.inspect(directory)


def test_truncated_file(directory: Path) -> None:
    path = directory / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(WeightsError, match=r"cannot read .*model.safetensors"):
        weights.inspect(directory)


def test_missing_and_foreign_tensors_are_named(directory: Path) -> None:
    tensors = load_file(directory / "model.safetensors")
    taken = tensors.pop("transformer.encoder.layers.1.mlp.dense_4h_to_h.weight")
    save_file(tensors, directory / "model.safetensors")
    with pytest.raises(
        WeightsError, match=r"1 tensors are missing, the first is transformer.encoder.layers.1.mlp.dense_4h_to_h.weight"
    ):
        weights.inspect(directory)
    save_file(tensors | {"encoder.conv1.weight": taken}, directory / "model.safetensors")
    with pytest.raises(WeightsError, match=r"unexpected tensor encoder.conv1.weight"):
        weights.inspect(directory)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": 256}, "has shape"),
        ({"num_layers": 2}, "unexpected tensor"),
        ({"num_layers": 4}, "missing"),
        ({"model_type": "llama"}, "model_type is 'llama'; 'chatglm' is supported"),
        ({"ffn_hidden_size": None}, "ffn_hidden_size must be a positive whole number"),
        ({"num_layers": 2.5}, "num_layers must be a positive whole number"),
        ({"layernorm_epsilon": "small"}, "layernorm_epsilon must be a positive number"),
        ({"eos_token_id": "end"}, "eos_token_id must be an id or a list of ids"),
        ({"multi_query_group_num": 3}, "4 heads cannot share 3 groups"),
        ({"kv_channels": 30}, "kv_channels is 30"),
        ({"add_bias_linear": True}, "add_bias_linear is True; only False"),
        ({"multi_query_group_num": 4}, "query_key_value"),
    ],
)
def test_config_that_does_not_fit(directory: Path, changes: dict[str, object], message: str) -> None:
    edit_config(directory, **changes)
    with pytest.raises(WeightsError, match=message):
        weights.inspect(directory)
