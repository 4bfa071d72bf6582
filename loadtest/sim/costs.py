"""What steps cost: tables measured at some batch sizes, interpolated between them."""

import bisect
from collections.abc import Sequence
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Outside:
    """Notes which values were asked for that no measurement covers, so that nobody extrapolates in silence."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str], tuple[float, float, float]] = {}

    def note(self, table: str, axis: str, value: float, low: float, high: float) -> None:
        """`value` lies outside of `low` to `high`."""
        before = self._seen.get((table, axis))
        worst = value if before is None or abs(value - high) > abs(before[0] - high) else before[0]
        self._seen[table, axis] = (worst, low, high)

    @property
    def warnings(self) -> list[str]:
        """A line for each table and axis."""
        return [
            f"{table}: {axis} up to {worst:g} was needed, measured are {low:g} to {high:g}; "
            "the cost beyond is a straight line through the last two. Measure more"
            for (table, axis), (worst, low, high) in sorted(self._seen.items())
        ]


class Table(BaseModel):
    """Seconds of a step over two sizes.

    Attributes:
        axes: names of the two.
        rows, columns: measured sizes of the first and of the second, ascending.
        seconds: one list for each of `rows`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    axes: tuple[str, str]
    rows: list[Positive] = Field(min_length=1)
    columns: list[NotNegative] = Field(min_length=1)
    seconds: list[list[NotNegative]]

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if sorted(set(self.rows)) != self.rows or sorted(set(self.columns)) != self.columns:
            raise ValueError("measured sizes must ascend")
        if len(self.seconds) != len(self.rows) or any(len(row) != len(self.columns) for row in self.seconds):
            raise ValueError(f"there must be {len(self.rows)} rows of {len(self.columns)} seconds")
        return self

    def at(self, row: float, column: float, name: str, outside: Outside) -> float:
        """Seconds at these sizes. Below the least measured size a step costs what it costs there.

        Args:
            name: of the table, for warnings.
            outside: is told of sizes above the largest measured.
        """
        if row > self.rows[-1]:
            outside.note(name, self.axes[0], row, self.rows[0], self.rows[-1])
        if column > self.columns[-1]:
            outside.note(name, self.axes[1], column, self.columns[0], self.columns[-1])
        low, high, share = _between(self.rows, row)
        first, last, part = _between(self.columns, column)

        def along(values: Sequence[float]) -> float:
            return values[first] + part * (values[last] - values[first])

        below, above = along(self.seconds[low]), along(self.seconds[high])
        return max(0.0, below + share * (above - below))


def _between(sizes: Sequence[float], value: float) -> tuple[int, int, float]:
    """The two measured sizes around a value (or the last two), and how far it lies between them."""
    if len(sizes) == 1 or value <= sizes[0]:
        return 0, 0, 0.0
    high = min(bisect.bisect_left(sizes, value), len(sizes) - 1)
    return high - 1, high, (value - sizes[high - 1]) / (sizes[high] - sizes[high - 1])
