from collections import Counter

import pytest
import torch

from services.lm.sampling import choose, uniform

LOGITS = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()


def test_uniform_depends_on_seed_and_position_alone() -> None:
    values = {uniform(seed, position) for seed in range(30) for position in range(30)}
    assert len(values) == 900
    assert all(0 <= value < 1 for value in values)
    assert sum(values) / 900 == pytest.approx(0.5, abs=0.03)
    assert uniform(7, 11) == uniform(7, 11)


def test_greedy_takes_the_best_whatever_the_chance() -> None:
    assert {choose(LOGITS, 0, 1, chance) for chance in (0, 0.5, 0.999)} == {0}


@pytest.mark.parametrize(
    ("temperature", "top_p", "expected"),
    [
        (1.0, 1.0, [0.5, 0.3, 0.15, 0.05]),
        (1.0, 0.79, [5 / 8, 3 / 8, 0, 0]),
        (1.0, 0.49, [1, 0, 0, 0]),
        (0.5, 1.0, [0.6849, 0.2466, 0.0616, 0.0068]),
    ],
)
def test_shares_are_those_of_the_distribution(temperature: float, top_p: float, expected: list[float]) -> None:
    draws = 2000
    counts = Counter(choose(LOGITS, temperature, top_p, (i + 0.5) / draws) for i in range(draws))
    assert [counts[i] / draws for i in range(4)] == pytest.approx(expected, abs=0.001)


@pytest.mark.parametrize("chance", [0.0, 0.3, 0.9999999999999999])
@pytest.mark.parametrize("temperature", [0.0, 0.2, 10.0])
def test_barred_ids_are_never_chosen(chance: float, temperature: float) -> None:
    logits = LOGITS.clone()
    logits[[0, 2]] = -torch.inf
    assert choose(logits, temperature, 1.0, chance) in (1, 3)


def test_order_of_ids_does_not_matter_to_the_share() -> None:
    logits = LOGITS[torch.tensor([3, 1, 0, 2])]
    assert choose(logits, 1.0, 1.0, 0.0) == 2
    assert choose(logits, 1.0, 1.0, 0.6) == 1
