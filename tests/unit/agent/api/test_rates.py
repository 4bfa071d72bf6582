import pytest

from services.agent.api.rates import Rates, address_group


async def test_each_client_has_a_count_of_its_own() -> None:
    rates = Rates("3/hour")
    assert [await rates.refused("a") for _ in range(3)] == [None] * 3
    wait = await rates.refused("a")
    assert wait is not None
    assert 1 <= wait <= 3600
    assert await rates.refused("b") is None


async def test_of_several_limits_the_longest_wait_is_told() -> None:
    rates = Rates("1/minute;2/day")
    assert await rates.refused("a") is None
    assert await rates.refused("a") is not None
    wait = await rates.refused("a")
    assert wait is not None
    assert wait > 3600


async def test_no_limit() -> None:
    rates = Rates("")
    assert [await rates.refused("a") for _ in range(100)] == [None] * 100


@pytest.mark.parametrize("wrong", ["often", "3", "3/fortnight", "-1/second"])
def test_what_is_no_limit_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        Rates(wrong)


@pytest.mark.parametrize(
    ("host", "group"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1", "2001:db8:1:2::/64"),
        (None, "unknown"),
        ("socket", "socket"),
    ],
)
def test_an_address_counts_with_its_subscriber_s_others(host: str | None, group: str) -> None:
    assert address_group(host) == group
