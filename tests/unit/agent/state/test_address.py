import pytest

from services.agent.state.address import Address, Kind, StateError, parse


def test_one_server() -> None:
    url = "rediss://agent:p%40ss@redis.example.org:6380/3"
    shown = "rediss://redis.example.org:6380/3"
    expected = Address(
        Kind.STANDALONE, (("redis.example.org", 6380),), shown, tls=True, db=3, username="agent", password="p@ss"
    )
    assert parse(url) == expected
    assert parse("redis://localhost").hosts == (("localhost", 6379),)
    assert parse("redis://:only@[::1]:7000").hosts == (("::1", 7000),)
    assert parse("redis://:only@[::1]:7000").password == "only"
    assert parse("unix:///run/redis.sock").path == "/run/redis.sock"


def test_sentinels() -> None:
    address = parse("rediss+sentinel://u:p@one:1,two/primary/2")
    assert (address.kind, address.tls) == (Kind.SENTINEL, True)
    assert address.hosts == (("one", 1), ("two", 26379))
    assert (address.service, address.db) == ("primary", 2)


def test_a_cluster() -> None:
    address = parse("redis+cluster://one:1,two:2/0")
    assert (address.kind, address.hosts) == (Kind.CLUSTER, (("one", 1), ("two", 2)))


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("localhost", "no scheme"),
        ("http://localhost", "unknown scheme 'http'"),
        ("redis+cloud://a", "unknown scheme 'redis+cloud'"),
        ("redis://a,b", "need +sentinel or +cluster"),
        ("redis://", "'' is no host"),
        ("redis://a:0", "port 0"),
        ("redis://a:x", "'a:x' is no host"),
        ("redis://a:65536", "port 65536"),
        ("redis://a/x", "database must be a number"),
        ("redis://a/1/2", "database must be a number"),
        ("redis://a?ssl_ca_certs=b", "options after '?'"),
        ("redis+sentinel://a:1,b:2", "name of the service is missing"),
        ("redis+sentinel://a:1,/primary", "'' is no host"),
        ("redis+cluster://a/1", "database 0 only"),
        ("unix://relative", "has a path"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(url: str, reason: str) -> None:
    secret = url.replace("://", "://user:hidden@") if "://" in url else url
    with pytest.raises(StateError) as raised:
        parse(secret)
    message = str(raised.value)
    assert reason in message
    assert "is no Redis URL" in message
    assert "\n" not in message
    assert "hidden" not in message
