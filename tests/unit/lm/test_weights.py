import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from services.common.errors import WeightsError
from services.lm import weights
from services.lm.torch_engine.runner import Runner, Span

STEPS = 40


@pytest.fixture
def directory(tmp_path: Path, golden_dir: Path) -> Path:
    for name in ("config.json", "model.safetensors"):
        shutil.copy(golden_dir / "lm" / name, tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def golden(golden_dir: Path) -> list[dict[str, Any]]:
    cases: list[dict[str, Any]] = json.loads((golden_dir / "lm" / "golden.json").read_text())
    assert len(cases) == 3
    return cases


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


def greedy(runner: Runner, prompts: list[list[int]]) -> tuple[list[list[int]], list[list[torch.Tensor]]]:
    """All prompts as one batch; end tokens are ignored."""
    caches = [runner.cache() for _ in prompts]
    chosen: list[list[int]] = [[] for _ in prompts]
    logprobs: list[list[torch.Tensor]] = [[] for _ in prompts]
    following = prompts
    for _ in range(STEPS):
        logits = runner.forward([Span(cache, tokens) for cache, tokens in zip(caches, following, strict=True)])
        following = []
        for i, row in enumerate(logits):
            chosen[i].append(int(row.argmax()))
            logprobs[i].append(row.log_softmax(-1))
            following.append(chosen[i][-1:])
    return chosen, logprobs


@pytest.mark.parametrize("together", [True, False])
def test_greedy_tokens_and_top5_are_those_of_the_reference(
    golden_dir: Path, golden: list[dict[str, Any]], together: bool
) -> None:
    runner = Runner(weights.load(golden_dir / "lm").model)
    groups = [golden] if together else [[case] for case in golden]
    for cases in groups:
        chosen, logprobs = greedy(runner, [case["prompt"] for case in cases])
        for case, ids, rows in zip(cases, chosen, logprobs, strict=True):
            assert ids == case["greedy"]
            for row, top in zip(rows, case["top5_logprobs"], strict=True):
                assert {int(i) for i in row.topk(5).indices} == {int(i) for i in top}
                for token, value in top.items():
                    assert float(row[int(token)]) == pytest.approx(value, abs=1e-3)


def test_shards_are_the_same_model(directory: Path) -> None:
    whole = weights.load(directory)
    split_in_shards(directory)
    shards = weights.load(directory)
    ours, theirs = whole.model.state_dict(), shards.model.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_other_number_formats(directory: Path, dtype: str) -> None:
    model = weights.load(directory, dtype).model
    assert {tensor.dtype for tensor in model.state_dict().values()} == {weights.DTYPES[dtype]}
    logits = Runner(model).forward([Span(Runner(model).cache(), [1, 2, 3])])
    assert logits.dtype == torch.float32
    assert torch.isfinite(logits).all()


def test_tied_output_layer(directory: Path) -> None:
    tensors = load_file(directory / "model.safetensors")
    embedding = tensors["transformer.embedding.word_embeddings.weight"]
    del tensors["transformer.output_layer.weight"]
    save_file(tensors, directory / "model.safetensors")
    with pytest.raises(WeightsError, match=r"lm_head\.weight"):
        weights.load(directory)
    edit_config(directory, tie_word_embeddings=True)
    assert torch.equal(weights.load(directory).model.lm_head.weight, embedding)


def test_revision_changes_with_the_weights_and_the_config(directory: Path) -> None:
    first = weights.load(directory).revision
    assert weights.load(directory).revision == first
    tensors = load_file(directory / "model.safetensors")
    tensors["transformer.output_layer.weight"][7, 7] += 1
    save_file(tensors, directory / "model.safetensors")
    second = weights.load(directory).revision
    edit_config(directory, seq_length=512)
    assert len({first, second, weights.load(directory).revision}) == 3


def test_no_weight_file(directory: Path) -> None:
    (directory / "model.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"neither model.safetensors nor"):
        weights.load(directory)


def test_missing_shard_is_named(directory: Path) -> None:
    split_in_shards(directory)
    (directory / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"model-00002-of-00002.safetensors, which is missing"):
        weights.load(directory)


def test_truncated_file(directory: Path) -> None:
    path = directory / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(WeightsError, match=r"cannot read .*model.safetensors"):
        weights.load(directory)


def test_missing_and_foreign_tensors_are_named(directory: Path) -> None:
    tensors = load_file(directory / "model.safetensors")
    taken = tensors.pop("transformer.encoder.layers.1.mlp.dense_4h_to_h.weight")
    save_file(tensors, directory / "model.safetensors")
    with pytest.raises(WeightsError, match=r"1 tensors are missing, the first is model.layers.1.mlp.down_proj.weight"):
        weights.load(directory)
    save_file(tensors | {"encoder.conv1.weight": taken}, directory / "model.safetensors")
    with pytest.raises(WeightsError, match=r"unexpected tensor encoder.conv1.weight"):
        weights.load(directory)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": 256}, "has shape"),
        ({"num_layers": 2}, "unexpected tensor"),
        ({"num_layers": 4}, "missing"),
        ({"model_type": "llama"}, "model_type is 'llama'; 'chatglm' is supported"),
        ({"ffn_hidden_size": None}, "ffn_hidden_size must be a positive number"),
        ({"add_bias_linear": True}, "add_bias_linear is True; only False"),
        ({"multi_query_group_num": 4}, "query_key_value"),
    ],
)
def test_config_that_does_not_fit(directory: Path, changes: dict[str, object], message: str) -> None:
    edit_config(directory, **changes)
    with pytest.raises(WeightsError, match=message):
        weights.load(directory)
