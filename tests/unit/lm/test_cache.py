import random

import torch

from services.lm.torch_engine.blocks import BLOCK_TOKENS, KVCache
from services.lm.torch_engine.cache import BlockPool, CacheShape

SHAPE = CacheShape(layers=2, kv_heads=3, size=4)


def pool(tokens: int) -> BlockPool:
    return BlockPool(SHAPE, tokens, torch.float32, torch.device("cpu"))


def grow(cache: KVCache, count: int) -> None:
    cache.reserve(count)
    cache.advance(count)


def test_the_pool_holds_what_it_was_asked_for_in_whole_blocks() -> None:
    small = pool(BLOCK_TOKENS + 1)
    assert (small.blocks, small.free, small.tokens) == (2, 2, 2 * BLOCK_TOKENS)
    assert small.data[:, :, 1:].numel() * 4 == 2 * SHAPE.block_bytes(torch.float32)


def test_blocks_are_held_by_one_session_each_and_come_back() -> None:
    chance = random.Random(1)
    shared = pool(40 * BLOCK_TOKENS)
    caches = [KVCache(shared) for _ in range(5)]
    for _ in range(500):
        cache = chance.choice(caches)
        count = chance.randrange(1, 90)
        if cache.missing(count) <= shared.free:
            grow(cache, count)
        else:
            cache.truncate(chance.randrange(cache.length + 1))
        held = [block for each in caches for block in each.blocks]
        assert 0 not in held
        assert len(set(held)) == len(held) == shared.blocks - shared.free
        for each in caches:
            assert len(each.blocks) == -(-each.length // BLOCK_TOKENS)
    for cache in caches:
        cache.truncate(0)
    assert shared.free == shared.blocks


def test_freed_blocks_are_used_again_lowest_first() -> None:
    shared = pool(10 * BLOCK_TOKENS)
    first, second = KVCache(shared), KVCache(shared)
    grow(first, 3 * BLOCK_TOKENS)
    grow(second, 2 * BLOCK_TOKENS)
    first.truncate(BLOCK_TOKENS + 1)
    grow(second, BLOCK_TOKENS + 1)
    assert first.blocks == [1, 2]
    assert second.blocks == [4, 5, 3, 6]


def test_truncating_beyond_the_end_changes_nothing() -> None:
    cache = KVCache(pool(100))
    grow(cache, 5)
    cache.truncate(9)
    assert (cache.length, len(cache.blocks)) == (5, 1)


def test_a_block_is_taken_only_when_its_first_position_is() -> None:
    cache = KVCache(pool(100))
    grow(cache, BLOCK_TOKENS - 1)
    assert cache.missing(1) == 0
    assert cache.missing(2) == 1
