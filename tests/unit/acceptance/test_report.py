import pytest

from tests.acceptance.report import Asked, markdown, percentile_95, stage_times


def test_percentile_is_of_the_nearest_rank() -> None:
    assert percentile_95([float(value) for value in range(1, 21)]) == 19.0
    assert percentile_95([3.0]) == 3.0
    assert percentile_95([5.0, 1.0]) == 5.0


def test_times_of_a_stage_begin_where_the_one_before_ended() -> None:
    [decided, packet] = stage_times([
        {"turn_decided": 200.0, "first_packet": 900.0},
        {"turn_decided": 300.0, "first_packet": 700.0},
        {"turn_decided": 250.0},
    ])  # fmt: skip
    assert (decided.name, decided.turns, decided.reached_median, decided.took_p95) == ("turn_decided", 3, 250.0, 300.0)
    assert (packet.name, packet.turns, packet.reached_median, packet.took_median) == ("first_packet", 2, 800.0, 550.0)


def test_the_page_counts_by_row_and_lists_failures() -> None:
    hours = ("nine to six",)
    page = markdown(
        [
            Asked(
                "when are you open",
                2,
                "hours",
                hours,
                heard="From nine to six.",
                right=True,
                caption_right=True,
                stages={"first_pcm": 5.0},
            ),
            Asked(
                "your hours please",
                2,
                "hours",
                hours,
                heard="From nine to three.",
                caption="from nine to six",
                caption_right=True,
            ),
            Asked("are you a machine", 13, "identity", ("assistant",), problem="TimeoutError: "),
        ],
        "Title",
        "On a machine.",
    )
    assert "**1 of 3 answers are right as heard.**" in page
    assert "By their captions 2 are." in page
    assert "| 2 hours | 1 | 2 | 2 |" in page
    assert "| 13 identity | 0 | 0 | 1 |" in page
    assert "| first_pcm | 5 | 5 | 5 | 5 | 1 |" in page
    assert "## Failures (2)" in page
    assert "| your hours please | nine to six | From nine to three. | from nine to six |" in page
    assert "| are you a machine | assistant | TimeoutError:  |  |" in page


@pytest.mark.parametrize("values", [[], [{}]])
def test_without_turns_there_are_no_times(values: list[dict[str, float]]) -> None:
    assert stage_times(values) == []
