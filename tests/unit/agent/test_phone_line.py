from pathlib import Path

import pytest

from services.agent.legs.sip_settings import Srtp
from services.agent.phone_line import PhoneLineError, load_trunks, sip_settings
from services.agent.settings import AgentSettings

TRUNK = """
trunks:
  - name: provider
    domain: sip.example.com
    user: alice
    transport: tcp
    srtp: mandatory
    {password}
"""


def trunks_file(directory: Path, password: str) -> Path:
    path = directory / "trunks.yaml"
    path.write_text(TRUNK.format(password=password))
    return path


def test_a_password_comes_from_a_file_or_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "secret").write_text("correct horse\n")
    [trunk] = load_trunks(trunks_file(tmp_path, f"password_file: {tmp_path}/secret"))
    assert (trunk.password, trunk.srtp, trunk.transport) == ("correct horse", Srtp.MANDATORY, "tcp")
    monkeypatch.setenv("PROVIDER_PASSWORD", "battery staple")
    [trunk] = load_trunks(trunks_file(tmp_path, "password_env: PROVIDER_PASSWORD"))
    assert trunk.password == "battery staple"
    [trunk] = load_trunks(trunks_file(tmp_path, "expires_s: 0"))
    assert trunk.password == ""


@pytest.mark.parametrize(
    ("password", "message"),
    [
        ("password: secret", "password: Extra inputs"),
        ("password_env: NOT_SET_ANYWHERE", "no password in environment variable NOT_SET_ANYWHERE"),
        ("password_file: /nowhere/secret", "/nowhere/secret cannot be read: No such file"),
        ("password_env: A\n    password_file: b", "not both"),
        ("expires_s: 1", "60 to 86400"),
        ("proxy: [1]", "proxy: "),
        ("]", "is not YAML"),
    ],
)
def test_unusable_trunks_are_named(tmp_path: Path, password: str, message: str) -> None:
    with pytest.raises(PhoneLineError, match=message) as error:
        load_trunks(trunks_file(tmp_path, password))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", ["", "trunks: 1", "trunk: []", "- a", "trunks: []\nmore: 1"])
def test_a_file_of_another_shape_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "trunks.yaml"
    path.write_text(content)
    with pytest.raises(PhoneLineError, match="a list `trunks` and nothing else"):
        load_trunks(path)
    with pytest.raises(PhoneLineError, match="cannot be read"):
        load_trunks(tmp_path / "missing.yaml")


def test_settings_become_those_of_the_line() -> None:
    line = sip_settings(
        AgentSettings(
            sip_listen="[::1]:5070", sip_transports="tcp, udp", sip_srtp="optional", sip_codecs="pcma,opus",
            sip_networks="10.0.0.0/8", sip_called_headers="Diversion,To", rtp_timeout=7, max_call_minutes=2,
        )
    )  # fmt: skip
    assert (line.host, line.port, line.transports, line.srtp) == ("::1", 5070, ("tcp", "udp"), Srtp.OPTIONAL)
    assert (line.codecs, line.called_headers) == (("pcma", "opus/48000/2"), ("Diversion", "To"))
    assert (str(line.networks[0]), line.rtp_timeout_s, line.max_call_s) == ("10.0.0.0/8", 7, 120.0)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"sip_transports": "udp,ws"}, "some of udp, tcp, tls"),
        ({"sip_transports": "tls"}, "needs a certificate"),
        ({"sip_tls_key": Path("/k.pem")}, "need --sip-tls-certificate"),
        ({"sip_tls_certificate": Path("/nowhere.pem")}, "does not exist"),
        ({"sip_codecs": "mp3"}, "SIP codecs"),
        ({"sip_networks": "10.0.0.1/8"}, "not a network"),
        ({"sip_caller_headers": "X-From"}, "headers of the caller"),
        ({"sip_trunks": Path("/nowhere.yaml")}, "cannot be read"),
        ({"sip_listen": "localhost:5060"}, "not an IP address"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(PhoneLineError, match=message):
        sip_settings(AgentSettings(**wrong))  # type: ignore[arg-type]
