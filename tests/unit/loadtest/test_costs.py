import pytest
from pydantic import ValidationError

from loadtest.sim.costs import Outside, Table

TABLE = Table(axes=("batch", "frames"), rows=[1, 4], columns=[10, 30], seconds=[[1.0, 3.0], [4.0, 12.0]])


@pytest.mark.parametrize(
    ("batch", "frames", "seconds"),
    [(1, 10, 1.0), (4, 30, 12.0), (1, 20, 2.0), (2, 10, 2.0), (2.5, 20, 5.0)],
)
def test_between_measured_sizes_it_is_a_plane(batch: float, frames: float, seconds: float) -> None:
    outside = Outside()
    assert TABLE.at(batch, frames, "t", outside) == pytest.approx(seconds)
    assert outside.warnings == []


def test_beyond_the_largest_it_goes_on_in_a_straight_line_and_says_so() -> None:
    outside = Outside()
    assert TABLE.at(7, 10, "decoder.first", outside) == pytest.approx(7.0)
    assert TABLE.at(9, 10, "decoder.first", outside) == pytest.approx(9.0)
    [warning] = outside.warnings
    assert "decoder.first: batch up to 9 was needed, measured are 1 to 4" in warning


def test_smaller_than_measured_costs_what_the_smallest_does() -> None:
    outside = Outside()
    assert TABLE.at(1, 2, "t", outside) == pytest.approx(1.0)
    assert outside.warnings == []


def test_one_size_is_constant() -> None:
    table = Table(axes=("batch", "frames"), rows=[1], columns=[10], seconds=[[0.5]])
    outside = Outside()
    assert table.at(3, 20, "t", outside) == pytest.approx(0.5)
    assert len(outside.warnings) == 2


@pytest.mark.parametrize(
    "wrong",
    [
        {"rows": [4, 1]},
        {"rows": [1, 1]},
        {"seconds": [[1.0, 2.0]]},
        {"seconds": [[1.0], [2.0]]},
        {"seconds": [[1.0, -1.0], [2.0, 3.0]]},
        {"columns": []},
    ],
)
def test_tables_that_make_no_sense_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Table.model_validate({**TABLE.model_dump(), **wrong})
