import torch

from services.lm.torch_engine.cache import KVCache

SHAPE = (2, 3, 4)


def fill(cache: KVCache, count: int, value: float) -> list[tuple[torch.Tensor, torch.Tensor]]:
    cache.reserve(count)
    block = torch.full((3, count, 4), value)
    seen = [cache.write(layer, torch.stack([block + layer, -block - layer])) for layer in range(2)]
    cache.advance(count)
    return seen


def test_written_positions_are_kept_over_growth_and_truncation() -> None:
    cache = KVCache(SHAPE, torch.float32, torch.device("cpu"))
    fill(cache, 200, 1.0)
    fill(cache, 200, 2.0)
    cache.truncate(250)
    assert cache.length == 250
    seen = fill(cache, 700, 3.0)
    for layer, (keys, values) in enumerate(seen):
        expected = torch.tensor([1.0] * 200 + [2.0] * 50 + [3.0] * 700) + layer
        assert torch.equal(keys[1, :, 2], expected)
        assert torch.equal(values[2, :, 0], -expected)


def test_truncating_beyond_the_end_changes_nothing() -> None:
    cache = KVCache(SHAPE, torch.float32, torch.device("cpu"))
    fill(cache, 5, 1.0)
    cache.truncate(9)
    assert cache.length == 5
