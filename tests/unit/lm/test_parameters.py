import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from services.lm import weights
from services.lm.torch_engine import parameters
from services.lm.torch_engine.quantization import quantized
from services.lm.torch_engine.runner import Runner, Span

STEPS = 40
LAYERS, HIDDEN, FFN = 8, 512, 4096


@pytest.fixture(scope="module")
def golden(golden_dir: Path) -> list[dict[str, Any]]:
    cases: list[dict[str, Any]] = json.loads((golden_dir / "lm" / "golden.json").read_text())
    assert len(cases) == 3
    return cases


def greedy(runner: Runner, prompts: list[list[int]]) -> tuple[list[list[int]], list[list[torch.Tensor]]]:
    """All prompts as one batch; end tokens are ignored."""
    caches = [runner.cache() for _ in prompts]
    chosen: list[list[int]] = [[] for _ in prompts]
    logprobs: list[list[torch.Tensor]] = [[] for _ in prompts]
    following = prompts
    for _ in range(STEPS):
        for cache, tokens in zip(caches, following, strict=True):
            cache.reserve(len(tokens))
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
    runner = Runner(parameters.load(weights.inspect(golden_dir / "lm"), torch.float32), 1024)
    groups = [golden] if together else [[case] for case in golden]
    for cases in groups:
        chosen, logprobs = greedy(runner, [case["prompt"] for case in cases])
        for case, ids, rows in zip(cases, chosen, logprobs, strict=True):
            assert ids == case["greedy"]
            for row, top in zip(rows, case["top5_logprobs"], strict=True):
                assert {int(i) for i in row.topk(5).indices} == {int(i) for i in top}
                for token, value in top.items():
                    assert float(row[int(token)]) == pytest.approx(value, abs=1e-3)


@pytest.mark.parametrize("name", ["bfloat16", "float16"])
def test_other_number_formats(golden_dir: Path, golden: list[dict[str, Any]], name: str) -> None:
    checkpoint = weights.inspect(golden_dir / "lm")
    exact = Runner(parameters.load(checkpoint, torch.float32), 1024)
    network = parameters.load(checkpoint, parameters.DTYPES[name])
    assert network.layers[0].qkv.dtype == network.head.dtype == network.dtype == parameters.DTYPES[name]
    rounded = Runner(network, 1024)
    prompt = golden[0]["prompt"]
    ours, theirs = (greedy(runner, [prompt])[1][0][0] for runner in (rounded, exact))
    assert float((ours.exp() - theirs.exp()).abs().sum()) < 0.1


def test_int4_is_near_and_small(golden_dir: Path, golden: list[dict[str, Any]]) -> None:
    checkpoint = weights.inspect(golden_dir / "lm")
    exact = parameters.load(checkpoint, torch.float32)
    coarse = parameters.load(checkpoint, torch.float32, int4=True)
    prompt = golden[0]["prompt"]
    ours, theirs = (greedy(Runner(network, 1024), [prompt])[1][0][0] for network in (coarse, exact))
    distance = float((ours.exp() - theirs.exp()).abs().sum()) / 2
    assert 0 < distance < 0.3


def test_int4_rounds_to_sixteen_levels_a_group() -> None:
    weight = torch.randn(64, 256, generator=torch.Generator().manual_seed(0))
    packed = quantized(weight)
    seen = torch.nn.functional.linear(torch.eye(256), packed).t()
    step = (weight.view(64, 2, 128).amax(-1) - weight.view(64, 2, 128).amin(-1)) / 15
    assert ((seen - weight).view(64, 2, 128).abs() <= 0.51 * step[..., None] + 1e-3).all()
    assert all(len(row.unique()) <= 16 for row in seen.reshape(-1, 128).mul(1e4).round())


def test_rows_that_cannot_be_cut_into_groups_stay_as_they_are() -> None:
    weight = torch.randn(64, 48)
    assert quantized(weight) is weight
    assert quantized(torch.randn(64, 96)).shape == (64, 96)


def write_large(directory: Path) -> int:
    """A float32 checkpoint of 8 shards, one layer each. Returns its size in bytes."""
    config = {
        "model_type": "chatglm", "num_layers": LAYERS, "hidden_size": HIDDEN, "num_attention_heads": 8,
        "kv_channels": 64, "ffn_hidden_size": FFN, "padded_vocab_size": 1024, "layernorm_epsilon": 1e-6,
        "seq_length": 64, "multi_query_attention": True, "multi_query_group_num": 2,
    }  # fmt: skip
    (directory / "config.json").write_text(json.dumps(config))
    weight_map: dict[str, str] = {}
    shapes = weights.Architecture.from_config(config).shapes()
    for layer in range(LAYERS):
        mine = [name for name in shapes if f".layers.{layer}." in name or (layer == 0 and ".layers." not in name)]
        file = f"model-{layer + 1:05}-of-{LAYERS:05}.safetensors"
        save_file({name: torch.zeros(shapes[name]) for name in mine}, directory / file)
        weight_map |= dict.fromkeys(mine, file)
    (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return sum(4 * torch.Size(shape).numel() for shape in shapes.values())


LOAD = """
import sys
from pathlib import Path
import torch
from services.lm import weights
from services.lm.torch_engine import parameters

def resident(key):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(key)) * 1024

checkpoint = weights.inspect(Path(sys.argv[1]))
torch.zeros(8, 8) @ torch.zeros(8, 8)
before = resident("VmRSS:")
Path("/proc/self/clear_refs").write_text("5")  # the peak is counted anew
network = parameters.load(checkpoint, getattr(torch, sys.argv[2]))
print(resident("VmHWM:") - before)
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="the peak of memory is read from Linux's /proc")
@pytest.mark.parametrize(("dtype", "share"), [("float32", 1.0), ("bfloat16", 0.5)])
def test_a_model_is_never_in_memory_twice(tmp_path: Path, dtype: str, share: float) -> None:
    size = write_large(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", LOAD, str(tmp_path), dtype],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[3],
    )
    peak = int(done.stdout)
    one_shard = size / LAYERS
    assert share * size * 0.9 < peak < share * size + 1.5 * one_shard
