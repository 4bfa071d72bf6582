import pytest

from services.agent.store import Store, StoreError


def test_a_password_is_not_repeated_in_an_error() -> None:
    with pytest.raises(StoreError) as raised:
        Store("nonsense://agent:secret@redis.invalid/0", "agent")
    assert "secret" not in str(raised.value)
    assert "redis.invalid" in str(raised.value)


async def test_an_unreachable_redis_is_named_without_its_password() -> None:
    store = Store("redis://:secret@127.0.0.1:1/0", "agent")
    with pytest.raises(StoreError, match=r"Redis at redis://127\.0\.0\.1:1/0 does not answer") as raised:
        await store.connect()
    assert "secret" not in str(raised.value)
    await store.close()
