from services.agent.state.connection import Connection
from services.agent.state.settings import StateSettings
from services.agent.state.store import Store
from services.agent.state.tokens import TOKEN_BYTES, ResumeTokens


class Recorded(Store):
    """Redis that has what was to be remembered, and nothing else."""

    def __init__(self) -> None:
        super().__init__(Connection.from_settings(StateSettings(redis_url="redis://127.0.0.1:1")), "agent")
        self.digests: dict[str, str] = {}

    async def resume_digest(self, call_id: str) -> str | None:
        return self.digests.get(call_id)


async def test_a_token_opens_its_own_call_until_that_is_over() -> None:
    tokens = ResumeTokens(Recorded(), lambda *_: None)
    one, other = tokens.issue("1"), tokens.issue("2")
    assert one != other
    assert len(one) >= TOKEN_BYTES
    assert (await tokens.call_of(one), await tokens.call_of(other)) == ("1", "2")
    tokens.revoke("1")
    assert (await tokens.call_of(one), await tokens.call_of(other)) == (None, "2")
    for guess in ("guess", "2", "2.", other + "x", other.replace("2.", "1.", 1)):
        assert await tokens.call_of(guess) is None


async def test_another_agent_knows_a_token_by_what_redis_keeps_and_that_opens_no_call() -> None:
    redis = Recorded()
    token = ResumeTokens(redis, redis.digests.__setitem__).issue("1")
    elsewhere = ResumeTokens(redis, lambda *_: None)
    assert await elsewhere.call_of(token) == "1"
    for kept in redis.digests.values():
        assert token not in kept
        for attempt in (kept, f"1.{kept}"):
            assert await elsewhere.call_of(attempt) is None
    redis.digests.clear()
    assert await elsewhere.call_of(token) is None


async def test_a_new_token_replaces_the_old_one() -> None:
    tokens = ResumeTokens(Recorded(), lambda *_: None)
    old, new = tokens.issue("1"), tokens.issue("1")
    assert (await tokens.call_of(old), await tokens.call_of(new)) == (None, "1")
