import json
from pathlib import Path

import pytest
import torch

from services.lm import weights
from services.lm.torch_engine.runner import Runner, Span
from tests.unit.lm.checkpoint import write_checkpoint


@pytest.fixture(params=[1, 500])
def checkpoint(request: pytest.FixtureRequest, tmp_path: Path, golden_dir: Path) -> weights.Checkpoint:
    path = write_checkpoint(tmp_path, golden_dir) / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"rope_ratio": request.param}))
    return weights.load(tmp_path)


def test_logits_are_those_of_the_transformers_model(checkpoint: weights.Checkpoint) -> None:
    ids = torch.randint(0, 700, (1, 200), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = checkpoint.model(ids).logits[0]
    runner = Runner(checkpoint.model)
    cache = runner.cache()
    tokens = ids[0].tolist()
    for start, end in [(0, 90), (90, 91), (91, 130), (130, 131), (131, 200)]:
        logits = runner.forward([Span(cache, tokens[start:end])])
        torch.testing.assert_close(logits[0], expected[end - 1], atol=1e-4, rtol=1e-4)
    with torch.inference_mode():
        torch.testing.assert_close(checkpoint.model(ids).logits[0], expected, atol=1e-4, rtol=1e-4)


def test_spans_of_a_batch_do_not_see_each_other(checkpoint: weights.Checkpoint) -> None:
    runner = Runner(checkpoint.model)
    prompts = [[1, 2, 3], [9] * 70, [5]]
    alone = [runner.forward([Span(runner.cache(), prompt)])[0] for prompt in prompts]
    together = runner.forward([Span(runner.cache(), prompt) for prompt in prompts])
    torch.testing.assert_close(together, torch.stack(alone), atol=1e-4, rtol=1e-4)


def test_truncated_cache_is_as_if_the_rest_had_never_been(checkpoint: weights.Checkpoint) -> None:
    runner = Runner(checkpoint.model)
    cache = runner.cache()
    runner.forward([Span(cache, list(range(60)))])
    cache.truncate(20)
    logits = runner.forward([Span(cache, [7, 8])])
    fresh = runner.forward([Span(runner.cache(), [*range(20), 7, 8])])
    torch.testing.assert_close(logits, fresh, atol=1e-4, rtol=1e-4)
