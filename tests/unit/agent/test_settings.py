import pytest
from pydantic import ValidationError

from services.agent.settings import AgentSettings, split_address


def test_defaults_are_usable() -> None:
    settings = AgentSettings()
    assert split_address(settings.http_listen) == ("127.0.0.1", 8080)
    assert settings.rtp_range == (10000, 10199)


def test_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRUNKLINE_AGENT_CAPACITY", "3")
    monkeypatch.setenv("TRUNKLINE_AGENT_SIP_LISTEN", "")
    assert (AgentSettings().capacity, AgentSettings().sip_listen) == (3, "")


def test_ipv6() -> None:
    assert split_address(AgentSettings(http_listen="[::1]:8080").http_listen) == ("::1", 8080)


def test_public_names() -> None:
    settings = AgentSettings(public_url="https://voice.example.com:8443/a/", media_url="wss://agent-1.example.com")
    assert (settings.public_url, settings.media_url) == (
        "https://voice.example.com:8443/a",
        "wss://agent-1.example.com",
    )


@pytest.mark.parametrize(
    "wrong",
    [
        {"lm": "localhost"},
        {"lm": ":50052"},
        {"lm": "a b:1"},
        {"calls_listen": "127.0.0.1:70000"},
        {"sip_listen": "5060"},
        {"rtp_ports": "80-90"},
        {"rtp_ports": "10000-10000"},
        {"rtp_ports": "10000-70000"},
        {"capacity": 0},
        {"sip_workers": 0},
        {"sip_workers": 65},
        {"http_certificate": "chain.pem"},
        {"http_key": "key.pem"},
        {"web_origins": "shop.example.org"},
        {"web_origins": "https://shop.example.org/path"},
        {"resume_seconds": -1},
        {"turn_ttl": 0},
        {"wait_for_models": 0},
        {"public_url": "http://voice.example.com"},
        {"public_url": "https://"},
        {"public_url": "https://user@voice.example.com"},
        {"public_url": "https://voice.example.com/?a=1"},
        {"media_url": "https://voice.example.com"},
        {"recording_format": "mp3"},
        {"agent_url": "wss://agent.example.com"},
        {"agent_url": "http://agent.example.com/?a=1"},
    ],
)
def test_unusable_values_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        AgentSettings(**wrong)  # type: ignore[arg-type]


def test_where_others_reach_an_agent() -> None:
    assert AgentSettings(http_listen="10.0.0.5:8080").reached_at(8080, "10.9.9.9") == "http://10.0.0.5:8080"
    assert AgentSettings(http_listen="10.0.0.5:0").reached_at(41_000, "10.9.9.9") == "http://10.0.0.5:41000"
    assert AgentSettings(http_listen="[::1]:8080").reached_at(8080, "10.9.9.9") == "http://[::1]:8080"
    assert AgentSettings(http_listen="0.0.0.0:8080").reached_at(8080, "10.9.9.9") == "http://10.9.9.9:8080"
    assert AgentSettings(http_listen="[::]:8080").reached_at(8080, "fd00::9") == "http://[fd00::9]:8080"
    behind = AgentSettings(http_listen="0.0.0.0:8080", agent_url="https://a.example.com/one/")
    assert behind.reached_at(8080, "10.9.9.9") == "https://a.example.com/one"
