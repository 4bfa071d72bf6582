import pytest

from services.agent.state.address import StateError
from services.agent.state.connection import Connection
from services.agent.state.settings import StateSettings


def test_a_password_is_not_repeated_in_an_error() -> None:
    with pytest.raises(StateError) as raised:
        Connection.from_settings(StateSettings(redis_url="nonsense://agent:secret@redis.invalid/0"))
    assert "secret" not in str(raised.value)
    assert "redis.invalid" in str(raised.value)


async def test_an_unreachable_redis_is_named_without_its_password() -> None:
    connection = Connection.from_settings(StateSettings(redis_url="redis://:secret@127.0.0.1:1/0"))
    with pytest.raises(StateError, match=r"Redis at redis://127\.0\.0\.1:1/0 does not answer") as raised:
        await connection.connect()
    assert "secret" not in str(raised.value)
    await connection.close()
