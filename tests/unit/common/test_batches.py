from collections.abc import Callable, Sequence

from services.common.batches import together


def doubled(calls: list[list[int]]) -> Callable[[Sequence[int]], list[int]]:
    def compute(items: Sequence[int]) -> list[int]:
        calls.append(list(items))
        if 3 in items:
            raise RuntimeError("three is bad")
        return [2 * item for item in items]

    return compute


def test_a_good_batch_is_computed_once() -> None:
    calls: list[list[int]] = []
    assert together([1, 2], doubled(calls)) == [2, 4]
    assert calls == [[1, 2]]
    assert together([], doubled(calls)) == []


def test_a_bad_item_fails_alone() -> None:
    calls: list[list[int]] = []
    first, bad, last = together([1, 3, 4], doubled(calls))
    assert (first, str(bad), last) == (2, "three is bad", 8)
    assert calls == [[1, 3, 4], [1], [3], [4]]


def test_a_bad_item_by_itself_is_not_tried_again() -> None:
    calls: list[list[int]] = []
    (bad,) = together([3], doubled(calls))
    assert isinstance(bad, RuntimeError)
    assert calls == [[3]]
