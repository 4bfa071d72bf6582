from collections import Counter

import pytest
import torch

from services.lm.sampling import Draw, uniform
from services.lm.sampling import choose as choose_rows

LOGITS = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()


def choose(logits: torch.Tensor, temperature: float, top_p: float, chance: float) -> int:
    return choose_rows(logits[None], [Draw(temperature, top_p, chance)])[0]


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
    draws = 2000
    counts = Counter(choose(logits, 1.0, 0.9, (i + 0.5) / draws) for i in range(draws))
    assert [counts[i] / draws for i in range(4)] == pytest.approx([0, 0.3 / 0.95, 0.5 / 0.95, 0.15 / 0.95], abs=0.001)


@pytest.mark.parametrize("size", [5, 64, 65, 3000])
def test_nucleus_of_any_size(size: int) -> None:
    """Against sorting the whole row; a flat distribution's nucleus is larger than the candidates looked at first."""
    chance = torch.Generator().manual_seed(size)
    for spread in (0.1, 1.0, 5.0):
        logits = torch.randn(size, generator=chance) * spread
        shares = logits.double().softmax(-1)
        for top_p in (0.05, 0.5, 0.95, 0.999):
            best, order = shares.sort(descending=True)
            nucleus = set(order[: int((best.cumsum(0) < top_p + 1e-5).sum()) + 1].tolist())
            drawn = {choose(logits, 1.0, top_p, (i + 0.5) / 300) for i in range(300)}
            assert drawn <= nucleus
            total = float(shares[list(nucleus)].sum())
            assert {token for token in nucleus if shares[token] / total > 2 / 300} <= drawn


def test_rows_are_chosen_each_by_its_own_settings() -> None:
    chance = torch.Generator().manual_seed(1)
    logits = torch.randn(12, 500, generator=chance) * 3
    draws = [Draw(t, p, c) for t in (0.0, 0.3, 1.0) for p in (0.4, 1.0) for c in (0.1, 0.8)]
    alone = [choose_rows(row[None], [draw])[0] for row, draw in zip(logits, draws, strict=True)]
    assert choose_rows(logits, draws) == alone
    assert alone[:4] == logits[:4].argmax(-1).tolist()
    assert len(set(alone)) > 3


def test_a_temperature_near_zero_is_greedy() -> None:
    assert choose(LOGITS * 1e6, 1e-38, 1.0, 0.999) == 0
