import base64
import hashlib
import hmac

import pytest

from services.agent.ice import IceServers

NOW = 1_700_000_000.0
URLS = "stun:stun.example.org:3478, turn:turn.example.org:3478?transport=udp,turns:turn.example.org"


def test_time_limited_users_are_what_a_turn_server_computes() -> None:
    """As coturn does with use-auth-secret: the password is the HMAC-SHA1 of the user's name."""
    servers = IceServers.parse(URLS, "", "shared", 600)
    [stun, turn] = servers.for_page(NOW, "abc")
    assert stun == {"urls": ["stun:stun.example.org:3478"]}
    assert turn["urls"] == ["turn:turn.example.org:3478?transport=udp", "turns:turn.example.org"]
    assert turn["username"] == "1700000600:abc"
    expected = base64.b64encode(hmac.new(b"shared", b"1700000600:abc", hashlib.sha1).digest()).decode()
    assert turn["credential"] == expected


def test_a_standing_user_is_handed_on() -> None:
    [_, turn] = IceServers.parse(URLS, "trunk", "word", 600).for_page(NOW, "abc")
    assert (turn["username"], turn["credential"]) == ("trunk", "word")


def test_the_agent_gets_the_same_servers() -> None:
    servers = IceServers.parse(URLS, "", "shared", 600).for_agent(NOW, "us")
    assert [server.urls for server in servers] == list(IceServers.parse(URLS, "", "shared", 600).urls)
    assert [server.username for server in servers] == [None, "1700000600:us", "1700000600:us"]


def test_none_is_fine() -> None:
    servers = IceServers.parse("", "", "", 600)
    assert servers.for_page(NOW, "a") == []
    assert servers.for_agent(NOW, "a") == []


@pytest.mark.parametrize(
    ("urls", "problem"),
    [
        ("http://turn.example.org", "no STUN or TURN URL"),
        ("stun:", "no STUN or TURN URL"),
        ("turn:turn.example.org", "need a secret"),
    ],
)
def test_what_cannot_work_is_refused(urls: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        IceServers.parse(urls, "", "", 600)


def test_the_secret_is_not_shown() -> None:
    assert "shared" not in repr(IceServers.parse(URLS, "", "shared", 600))
