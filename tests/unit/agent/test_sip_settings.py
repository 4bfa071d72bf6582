from pathlib import Path
from typing import Any

import pytest

from services.agent.legs.sip_settings import SipSettings, Tls, Trunk, codecs_named, networks_named

TRUNK: dict[str, Any] = {"name": "provider", "domain": "sip.example.com", "user": "alice", "password": "secret"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"host": "localhost"}, "not an IP address"),
        ({"host": ""}, "not an IP address"),
        ({"port": 65536}, "between 0 and 65535"),
        ({"port": -1}, "between 0 and 65535"),
        ({"rtp_ports": (80, 90)}, "between 1024 and 65535"),
        ({"rtp_ports": (30_000, 20_000)}, "lowest first"),
        ({"jitter_ms": (0, 100)}, "positive"),
        ({"jitter_ms": (80, 40)}, "lowest first"),
        ({"rtp_timeout_s": 0}, "positive"),
        ({"max_call_s": 0.0}, "positive"),
        ({"transfer_timeout_s": 0.0}, "positive"),
        ({"codecs": ("g729",)}, "SIP codecs must be some of"),
        ({"codecs": ()}, "SIP codecs must be some of"),
        ({"codecs": ("pcmu", "pcmu")}, "each once"),
        ({"transports": ("sctp",)}, "udp, tcp, tls"),
        ({"transports": ("tls",)}, "needs a certificate"),
        ({"called_headers": ("Subject",)}, "headers of the called number"),
        ({"trunks": (Trunk(**TRUNK), Trunk(**TRUNK))}, "same name"),
        ({"trunks": (Trunk(**TRUNK, transport="tcp"),)}, "wants tcp"),
        (
            {"trunks": (Trunk(**{**TRUNK, "domain": "192.0.2.1:5070"}),), "networks": networks_named("10.0.0.0/8")},
            "in none of the source networks",
        ),
    ],
)
def test_unusable_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SipSettings(**settings)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "My Provider"}, "lower-case letters"),
        ({"domain": "sip:example.com"}, "not a host"),
        ({"domain": "example.com:0"}, "not a host"),
        ({"proxy": "example.com;lr"}, "not a host"),
        ({"user": "a@b"}, "SIP reserves"),
        ({"auth_user": ""}, "SIP reserves"),
        ({"transport": "ws"}, "not one of"),
        ({"expires_s": 5}, "60 to 86400"),
        ({"password": 'lamb"da'}, "cannot be used"),
    ],
)
def test_unusable_trunks_are_refused_without_telling_the_password(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as refusal:
        Trunk(**{**TRUNK, **change})
    assert "secret" not in str(refusal.value)
    assert "lamb" not in str(refusal.value)


def test_a_trunk_keeps_its_password_to_itself() -> None:
    trunk = Trunk(**TRUNK)
    assert "secret" not in repr(trunk)
    assert "secret" not in repr(SipSettings(trunks=(trunk,)))


def test_tls_files_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"nothing\.pem does not exist"):
        Tls(tmp_path / "nothing.pem")


def test_codecs_by_name() -> None:
    assert codecs_named("PCMA, opus") == ("pcma", "opus/48000/2")
    for wrong in ("", "pcmu,,pcma", "speex", "pcmu,pcmu"):
        with pytest.raises(ValueError, match="SIP codecs"):
            codecs_named(wrong)


def test_networks_by_name() -> None:
    assert [str(network) for network in networks_named("10.0.0.0/8, 192.0.2.7,2001:db8::/32")] == [
        "10.0.0.0/8", "192.0.2.7/32", "2001:db8::/32",
    ]  # fmt: skip
    assert networks_named(" ") == ()
    for wrong in ("10.0.0.1/8", "example.com", "10.0.0.0/33"):
        with pytest.raises(ValueError, match="not a network"):
            networks_named(wrong)
    with pytest.raises(ValueError, match="more than"):
        SipSettings(networks=networks_named(",".join(f"10.0.{byte}.0/24" for byte in range(256)) + ",10.1.0.0/16"))
