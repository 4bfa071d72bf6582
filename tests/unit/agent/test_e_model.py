"""Against what ITU-T G.107 and G.113 print, and their equations worked by hand."""

import pytest

from services.agent.e_model import DEFAULT_R, G711, G711_CONCEALED, Codec, mos, rating
from services.agent.media_quality import Reception


# G.107 annex B, table B.1: the lower limits of R for each category, with their MOS
@pytest.mark.parametrize(("r", "score"), [(90, 4.34), (80, 4.03), (70, 3.60), (60, 3.10), (50, 2.58)])
def test_the_recommendations_table_of_opinion_scores(r: float, score: float) -> None:
    assert mos(r) == pytest.approx(score, abs=0.01)


def test_the_ends_of_the_scale() -> None:
    assert mos(0) == 1.0
    assert mos(-5) == 1.0
    assert mos(100) == mos(120) == 4.5
    assert min(mos(r / 10) for r in range(1000)) == 1.0, "the polynomial dips below 1 for small R"


def test_default_values_give_the_recommendations_default_rating() -> None:
    assert rating(0.0, G711) == DEFAULT_R == 93.2
    assert mos(DEFAULT_R) == pytest.approx(4.41, abs=0.005)


# equation 7-29 with G.113's values: Ie,eff = 95 * Ppl / (Ppl + Bpl)
@pytest.mark.parametrize(
    ("codec", "percent", "effective"),
    [(G711, 1, 17.92), (G711, 5, 51.08), (G711_CONCEALED, 1, 3.64), (G711_CONCEALED, 5, 15.78)],
)
def test_loss(codec: Codec, percent: float, effective: float) -> None:
    assert rating(percent / 100, codec) == pytest.approx(DEFAULT_R - effective, abs=0.01)


def test_losses_in_bursts_are_worse() -> None:
    assert rating(0.03, G711_CONCEALED, burst_ratio=2.0) < rating(0.03, G711_CONCEALED)


# equation 7-27, where X is 1 at 200 ms and 2 at 400 ms
@pytest.mark.parametrize(
    ("delay_ms", "impairment"),
    [
        (0, 0.0),
        (100, 0.0),
        (200, 25 * (2 ** (1 / 6) - 3 * (1 + 1 / 729) ** (1 / 6) + 2)),
        (400, 25 * (65 ** (1 / 6) - 3 * (1 + 64 / 729) ** (1 / 6) + 2)),
    ],
)
def test_delay(delay_ms: float, impairment: float) -> None:
    assert rating(0.0, G711, delay_ms / 1000) == pytest.approx(DEFAULT_R - impairment)


def test_long_delays_cost_ever_more() -> None:
    ratings = [rating(0.0, G711, delay / 1000) for delay in range(100, 800, 50)]
    assert ratings == sorted(ratings, reverse=True)
    assert len(set(ratings)) == len(ratings)


@pytest.mark.parametrize("bad", [{"loss": 1.1}, {"loss": -0.1}, {"delay_s": -1.0}, {"burst_ratio": 0.5}])
def test_values_out_of_range_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must hold"):
        rating(bad.get("loss", 0.0), G711, bad.get("delay_s", 0.0), bad.get("burst_ratio", 1.0))


def test_a_call_is_judged_by_the_share_that_was_lost() -> None:
    assert Reception(990, 10, 0.0).mos == mos(rating(0.01, G711))
    assert Reception(0, 0, 0.0).mos == mos(DEFAULT_R)
    assert Reception(100, 900, 0.0).mos < 1.3
