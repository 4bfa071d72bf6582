from services.agent.web_calls import TOKEN_BYTES, LocalTokens


async def test_a_token_opens_its_own_call_until_that_is_over() -> None:
    tokens = LocalTokens()
    one, other = await tokens.issue("1"), await tokens.issue("2")
    assert one != other
    assert len(one) >= TOKEN_BYTES
    assert (await tokens.call_of(one), await tokens.call_of(other)) == ("1", "2")
    await tokens.revoke("1")
    assert (await tokens.call_of(one), await tokens.call_of(other)) == (None, "2")
    assert await tokens.call_of("guess") is None


async def test_what_is_kept_opens_no_call() -> None:
    tokens = LocalTokens(lambda: "secret")
    token = await tokens.issue("1")
    for kept in tokens._calls:
        assert token not in kept
        assert await tokens.call_of(kept) is None
