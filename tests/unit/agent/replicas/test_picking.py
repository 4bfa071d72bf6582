from collections import Counter
from random import Random

from services.agent.replicas.picking import by_load, by_rendezvous

NAMES = ["a:1", "b:1", "c:1", "d:1"]


def first(key: str, names: list[str]) -> str:
    return by_rendezvous(key, names, str)[0]


def test_a_call_goes_to_the_same_replica_whoever_asks_and_in_whatever_order() -> None:
    for number in range(100):
        orders = {tuple(by_rendezvous(f"call-{number}", Random(seed).sample(NAMES, 4), str)) for seed in range(5)}
        assert len(orders) == 1


def test_calls_are_spread_evenly() -> None:
    counts = Counter(first(f"call-{number}", NAMES) for number in range(4000))
    assert set(counts) == set(NAMES)
    assert all(900 < count < 1100 for count in counts.values())


def test_when_one_goes_only_its_calls_move_and_they_spread_over_the_others() -> None:
    left = [name for name in NAMES if name != "b:1"]
    moved: Counter[str] = Counter()
    for number in range(4000):
        key = f"call-{number}"
        before, after = first(key, NAMES), first(key, left)
        if before == "b:1":
            moved[after] += 1
            assert after == by_rendezvous(key, NAMES, str)[1], "the second best is where it goes"
        else:
            assert after == before
    assert min(moved.values()) > 250


def test_of_two_the_less_loaded_is_taken() -> None:
    loads = {"a:1": 0.5, "b:1": 0.25}
    for seed in range(20):
        assert by_load(list(loads), loads.__getitem__, Random(seed)) == ["b:1", "a:1"]


def test_of_many_the_most_loaded_never_comes_first_and_the_least_loaded_not_always() -> None:
    loads = {"a:1": 0.0, "b:1": 0.1, "c:1": 0.2, "d:1": 0.9}
    random = Random(3)
    firsts = Counter(by_load(list(loads), loads.__getitem__, random)[0] for _ in range(300))
    assert "d:1" not in firsts
    assert set(firsts) == {"a:1", "b:1", "c:1"}
    assert by_load([], loads.__getitem__, random) == []
    assert by_load(["d:1"], loads.__getitem__, random) == ["d:1"]
