import socket

import pytest

from services.agent.legs.sip_networks import restrict
from services.agent.legs.sip_settings import networks_named


@pytest.mark.parametrize(
    ("networks", "source", "kept"),
    [
        ("127.0.0.2", "127.0.0.2", True),
        ("127.0.0.2", "127.0.0.3", False),
        ("10.0.0.0/8, 127.3.0.0/16", "127.3.255.1", True),
        ("10.0.0.0/8, 127.3.0.0/16", "127.4.0.1", False),
        ("0.0.0.0/0", "127.9.9.9", True),
        ("::/0", "127.0.0.1", False),
        ("::1", "::1", True),
        ("2001:db8::/32, ::/64", "::1", True),
        ("::2, 2001:db8::/32", "::1", False),
        ("0.0.0.0/0", "::1", False),
        (",".join(f"10.0.{byte}.0/24" for byte in range(255)) + ",127.0.0.0/8", "127.0.0.1", True),
    ],
)
def test_packets_are_kept_by_their_source(networks: str, source: str, kept: bool) -> None:
    family, host = (socket.AF_INET6, "::1") if ":" in source else (socket.AF_INET, "127.0.0.1")
    with socket.socket(family, socket.SOCK_DGRAM) as ours, socket.socket(family, socket.SOCK_DGRAM) as theirs:
        try:
            ours.bind((host, 0))
        except OSError:
            pytest.skip(f"this machine has no {host}")
        theirs.bind((source, 0))
        ours.settimeout(0.2)
        assert restrict([ours.getsockname()[1]], networks_named(networks)) == 1
        theirs.sendto(b"packet", ours.getsockname())
        if kept:
            assert ours.recv(10) == b"packet"
        else:
            with pytest.raises(TimeoutError):
                ours.recv(10)


def test_other_sockets_are_left_alone() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as ours, socket.socket(type=socket.SOCK_DGRAM) as other:
        for sock in (ours, other):
            sock.bind(("127.0.0.1", 0))
            sock.settimeout(5)
        assert restrict([ours.getsockname()[1]], networks_named("192.0.2.0/24")) == 1
        other.sendto(b"packet", other.getsockname())
        assert other.recv(10) == b"packet"
