"""Who goes through the encoder together, and who goes first."""

import random

import pytest

from services.tokenizer.batcher import Batcher


def waiting(budget: int, *items: tuple[str, int, bool], patience: int = 8) -> Batcher[str]:
    batcher: Batcher[str] = Batcher(budget, patience)
    for name, frames, urgent in items:
        batcher.add(name, frames, urgent)
    return batcher


def test_all_that_waits_goes_together_within_the_budget() -> None:
    batcher = waiting(100, ("a", 20, False), ("b", 5, False), ("c", 20, False))
    assert batcher.take() == ["a", "b", "c"]
    assert len(batcher) == 0
    assert batcher.take() == []


def test_the_budget_counts_padding() -> None:
    batcher = waiting(100, ("a", 5, False), ("b", 5, False), ("c", 50, False), ("d", 5, False))
    assert batcher.take() == ["a", "b"]
    assert batcher.take() == ["c", "d"]


def test_an_item_beyond_the_budget_goes_alone() -> None:
    batcher = waiting(100, ("long", 375, False), ("short", 1, False))
    assert batcher.take() == ["long"]
    assert batcher.take() == ["short"]


def test_urgent_items_go_first_and_arrival_decides_among_equals() -> None:
    batcher = waiting(40, ("a", 20, False), ("b", 20, True), ("c", 20, False), ("d", 20, True))
    assert batcher.take() == ["b", "d"]
    assert batcher.take() == ["a", "c"]


def test_a_batch_of_urgent_items_is_filled_with_others() -> None:
    batcher = waiting(60, ("a", 20, False), ("b", 20, True), ("c", 20, False))
    assert batcher.take() == ["b", "a", "c"]


def test_nobody_starves_behind_urgent_items() -> None:
    batcher = waiting(20, ("patient", 20, False), patience=3)
    batches = []
    for turn in range(6):
        batcher.add(f"urgent {turn}", 20, True)
        batches.append(batcher.take())
    assert batches[:5] == [["urgent 0"], ["urgent 1"], ["urgent 2"], ["patient"], ["urgent 3"]]


def test_what_is_discarded_never_comes() -> None:
    batcher = waiting(100, ("a", 20, False), ("b", 20, True))
    batcher.discard("b")
    batcher.discard("never there")
    assert len(batcher) == 1
    assert batcher.take() == ["a"]


def test_a_budget_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1 frame, is 0"):
        Batcher[str](0)


@pytest.mark.parametrize("seed", range(20))
def test_every_item_comes_once_and_no_batch_costs_more_than_it_may(seed: int) -> None:
    chance = random.Random(seed)
    batcher: Batcher[int] = Batcher(200)
    frames = {item: chance.randint(1, 250) for item in range(60)}
    came: list[int] = []
    for item, length in frames.items():
        batcher.add(item, length, chance.random() < 0.3)
        if chance.random() < 0.3:
            batch = batcher.take()
            assert len(batch) == 1 or len(batch) * max(frames[one] for one in batch) <= 200
            came += batch
    while batch := batcher.take():
        came += batch
    assert sorted(came) == list(frames)
