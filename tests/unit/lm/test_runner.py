import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from services.lm import weights
from services.lm.torch_engine import parameters
from services.lm.torch_engine.blocks import BLOCK_TOKENS, KVCache
from services.lm.torch_engine.graphs import DecodeGraphs
from services.lm.torch_engine.network import Network
from services.lm.torch_engine.parameters import Parameters
from services.lm.torch_engine.runner import Runner, Span
from tests.unit.lm.checkpoint import write_checkpoint
from training.lm import transformers_model

# Lengths around the ends of blocks, and far from each other.
LENGTHS = [1, BLOCK_TOKENS - 1, BLOCK_TOKENS, BLOCK_TOKENS + 1, 150, 3, 260, 70]


@pytest.fixture(params=[1, 500])
def directory(request: pytest.FixtureRequest, tmp_path: Path, golden_dir: Path) -> Path:
    path = write_checkpoint(tmp_path, golden_dir) / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"rope_ratio": request.param}))
    return tmp_path


def load(directory: Path, dtype: torch.dtype = torch.float32) -> Parameters:
    return parameters.load(weights.inspect(directory), dtype)


def run(runner: Runner, *spans: tuple[KVCache, Sequence[int]]) -> torch.Tensor:
    for cache, tokens in spans:
        cache.reserve(len(tokens))
    return runner.forward([Span(cache, tokens) for cache, tokens in spans])


def close(ours: torch.Tensor, theirs: torch.Tensor, within: float = 1e-4) -> None:
    torch.testing.assert_close(ours, theirs, atol=within, rtol=within)


def prompts() -> list[list[int]]:
    chance = torch.Generator().manual_seed(3)
    return [torch.randint(0, 700, (length,), generator=chance).tolist() for length in LENGTHS]


def test_logits_are_those_of_the_transformers_model(directory: Path) -> None:
    ids = torch.randint(0, 700, (1, 200), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = transformers_model.load(directory)(ids).logits[0]
    runner = Runner(load(directory), 1024)
    cache = runner.cache()
    tokens = ids[0].tolist()
    for start, end in [(0, 90), (90, 91), (91, 130), (130, 131), (131, 200)]:
        close(run(runner, (cache, tokens[start:end]))[0], expected[end - 1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_sessions_of_a_batch_do_not_see_each_other(
    network: Parameters, checkpoint_dir: Path, dtype: torch.dtype
) -> None:
    """Chunks and single tokens of sessions of any length, in one batch, as each alone."""
    runner = Runner(network if dtype == torch.float32 else load(checkpoint_dir, dtype), 4096)
    within = 1e-4 if dtype == torch.float32 else 0.1
    caches = [runner.cache() for _ in LENGTHS]
    together = run(runner, *zip(caches, prompts(), strict=True))
    alone = [runner.cache() for _ in LENGTHS]
    for i, prompt in enumerate(prompts()):
        close(together[i], run(runner, (alone[i], prompt))[0], within)
    mixed = [[5], [6, 7], [8], [9], [1] * 40, [2], [3], [4]]
    for tokens in (mixed, [[token] for token in range(10, 18)]):
        together = run(runner, *zip(caches, tokens, strict=True))
        for i, own in enumerate(tokens):
            close(together[i], run(runner, (alone[i], own))[0], within)


@pytest.mark.parametrize("others", [0, 1, 40])
def test_blocks_of_other_sessions_between_those_of_a_batch_change_nothing(network: Parameters, others: int) -> None:
    runner = Runner(network, 8192)
    alone = [run(runner, (runner.cache(), [*prompt, 5]))[0] for prompt in prompts()]
    caches, idle = [runner.cache() for _ in LENGTHS], [runner.cache() for _ in range(others)]
    for number, (cache, prompt) in enumerate(zip(caches, prompts(), strict=True)):
        run(runner, (cache, prompt))
        for other in idle[number::8]:
            run(runner, (other, [3] * 100))
    together = run(runner, *[(cache, [5]) for cache in caches])
    close(together, torch.stack(alone))


def test_logits_come_for_those_who_want_them(network: Parameters) -> None:
    runner = Runner(network, 1024)
    caches = [runner.cache() for _ in range(3)]
    for cache in caches:
        cache.reserve(3)
    spans = [Span(caches[0], [1, 2, 3], wanted=False), Span(caches[1], [4]), Span(caches[2], [5, 6])]
    logits = runner.forward(spans)
    assert len(logits) == 2
    close(logits[0], run(runner, (runner.cache(), [4]))[0])
    close(logits[1], run(runner, (runner.cache(), [5, 6]))[0])
    close(run(runner, (caches[0], [7]))[0], run(runner, (runner.cache(), [1, 2, 3, 7]))[0])


def test_truncated_cache_is_as_if_the_rest_had_never_been(network: Parameters) -> None:
    runner = Runner(network, 1024)
    cache = runner.cache()
    run(runner, (cache, list(range(60))))
    cache.truncate(20)
    logits = run(runner, (cache, [7, 8]))
    close(logits, run(runner, (runner.cache(), [*range(20), 7, 8])))


def test_captured_steps_pad_to_their_sizes(network: Parameters) -> None:
    """What a graph replays is computed here by the same function on the same fixed tensors."""
    runner = Runner(network, 4096)
    captured: list[Any] = []

    def capture(function: Any) -> Any:
        captured.append(function)
        return function

    graphs = DecodeGraphs(Network(network), runner.pool, sessions=6, context_length=1024, capture=capture)
    assert len(captured) == 4 * 3  # 1, 2, 4, 8 sessions; 8, 16, 32 columns
    assert graphs.fit([runner.cache()] * 8)
    assert not graphs.fit([runner.cache()] * 9)
    for count in (3, 8, 1):
        caches = [runner.cache() for _ in range(count)]
        for cache, prompt in zip(caches, prompts(), strict=False):
            run(runner, (cache, prompt))
            cache.reserve(1)
        with torch.inference_mode():
            logits = graphs.run(list(range(count)), caches)
        expected = run(runner, *[(cache, [token]) for token, cache in enumerate(caches)])
        close(logits, expected)
