import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loadtest.capacity import Capacity, find


async def searched(limit: int, first: int, most: int, within: int = 1) -> Capacity:
    async def holds(calls: int) -> bool:
        assert 1 <= calls <= most
        return calls <= limit

    return await find(holds, first, most, within)


@settings(max_examples=30, deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 80), st.integers(1, 64), st.integers(0, 64))
async def test_the_largest_number_is_found(limit: int, first: int, more: int) -> None:
    most = first + more
    found = await searched(limit, first, most)
    assert found.calls == min(limit, most)
    assert found.beyond == (limit + 1 if limit < most else None)
    tried = [calls for calls, _ in found.tried]
    assert len(set(tried)) == len(tried)
    assert len(tried) <= 2 * most.bit_length() + 1


async def test_as_closely_as_wanted() -> None:
    found = await searched(37, 4, 64, within=4)
    assert found.calls <= 37 < (found.beyond or 0) <= found.calls + 4


@pytest.mark.parametrize("numbers", [(0, 4, 1), (5, 4, 1), (1, 4, 0)])
async def test_numbers_that_make_no_sense(numbers: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="1 <= first <= most"):
        await searched(3, *numbers)
