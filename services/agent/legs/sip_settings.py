"""What the SIP leg can be told: where it listens, how it speaks, and the trunks behind it."""

import ipaddress
import re
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Literal, get_args

IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

# In order of preference. Opus and G.722 carry the whole band that the models hear; every phone has G.711.
CODECS = ("opus/48000/2", "g722/16000/1", "pcmu", "pcma")
CODEC_NAMES = {codec.partition("/")[0]: codec for codec in CODECS}
Transport = Literal["udp", "tcp", "tls"]
TRANSPORTS: tuple[Transport, ...] = get_args(Transport)
BUSY, UNAVAILABLE = 486, 503  # RFC 3261 sections 21.4.22 and 21.5.4
CALLED_HEADERS = ("P-Called-Party-ID", "To")
CALLER_HEADERS = ("From",)
PARTY_HEADERS = ("To", "From", "Diversion", "P-Asserted-Identity", "P-Called-Party-ID", "P-Preferred-Identity")
HOST = re.compile(r"[A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\]", re.ASCII)
USER = re.compile(r"[^\s@:;<>\"?\\]+", re.ASCII)
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}", re.ASCII)
MAX_NETWORKS = 256


class Srtp(Enum):
    """SRTP with keys in the SDP (RFC 4568)."""

    OFF = "off"
    OPTIONAL = "optional"  # taken when offered, offered beside plain RTP
    MANDATORY = "mandatory"  # a call without it is refused with 488


@dataclass(frozen=True)
class Tls:
    """Files for TLS, all PEM.

    Attributes:
        certificate: ours, with its chain; the private key may follow in the same file.
        key: private key of `certificate`; None when it is in the same file.
        ca: certificates that we trust when we connect; without it no server's certificate is checked.
    """

    certificate: Path
    key: Path | None = None
    ca: Path | None = None

    def __post_init__(self) -> None:
        for path in filter(None, (self.certificate, self.key, self.ca)):
            if not path.is_file():
                raise ValueError(f"TLS file {path} does not exist")


@dataclass(frozen=True)
class Trunk:
    """A SIP provider or PBX that calls go out through, and come in from.

    Attributes:
        name: for logs and for choosing it.
        domain: host or host:port; where its numbers live, and its registrar.
        user: our name there.
        password: for digest authentication (RFC 8760 keeps MD5 for the old ones); empty when it goes by address.
        auth_user: name for the digest when it is not `user`.
        proxy: host or host:port that requests are sent through when that is not `domain`.
        transport: udp, tcp or tls.
        expires_s: of a registration; it is renewed before. 0 does not register.
        srtp: of calls over this trunk.
    """

    name: str
    domain: str
    user: str
    password: str = field(default="", repr=False)
    auth_user: str | None = None
    proxy: str | None = None
    transport: Transport = "udp"
    expires_s: int = 600
    srtp: Srtp | None = None

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise ValueError(f"trunk name {self.name!r} may have lower-case letters, digits, - and _ only")
        where = f"trunk {self.name!r}"
        for what, address in (("domain", self.domain), ("proxy", self.proxy)):
            if address is not None and not _is_host_and_port(address):
                raise ValueError(f"{where}: {what} {address!r} is not a host or host:port")
        for what, user in (("user", self.user), ("auth_user", self.auth_user)):
            if user is not None and not USER.fullmatch(user):
                raise ValueError(f"{where}: {what} {user!r} has characters that SIP reserves, or none at all")
        if any(character in '"\\' or not character.isprintable() for character in self.password):
            raise ValueError(f"{where}: a password with quotes, backslashes or control characters cannot be used")
        if self.transport not in TRANSPORTS:
            raise ValueError(f"{where}: transport {self.transport!r} is not one of {', '.join(TRANSPORTS)}")
        if self.expires_s != 0 and not 60 <= self.expires_s <= 86_400:
            raise ValueError(f"{where}: expires_s must be 60 to 86400 seconds, or 0 for no registration")


@dataclass(frozen=True)
class SipSettings:
    """Where and how calls are taken and placed.

    Attributes:
        host: IPv4 or IPv6 address to listen on. 0.0.0.0 means all addresses of the machine except loopback; a
            loopback address confines media to loopback too.
        port: of signalling over UDP and TCP; TLS takes the next one. 0 takes free ones.
        user: our name in the calls we place. Calls for any name are taken.
        codecs: in order of preference, as the stack names them.
        jitter_ms: least and most delay of the jitter buffer.
        rtp_ports: lowest and highest port of media; None leaves the choice to the stack.
        rtp_timeout_s: a call without a packet for so long is dead, unless one side holds it.
        max_call_s: a call is ended after so long.
        ring_timeout_s: how long a call that we place may ring.
        transfer_timeout_s: how long the far end may take to report what became of a transfer.
        transports: of udp, tcp and tls, those listened on; calls to a URI that names none go out by the first.
        tls: files; needed when TLS is listened on.
        srtp: of calls that come in, or go out over no trunk.
        trunks: the first one takes calls to bare numbers.
        networks: source networks whose SIP packets are read at all; none means all.
        called_headers: where the called number stands; the first header that is there counts.
        busy_status: how calls are declined: BUSY, or UNAVAILABLE with Retry-After, which makes an edge try elsewhere.
        caller_headers: the same for who calls. All but From are claims: only behind a peer that is trusted.
    """

    host: str = "127.0.0.1"
    port: int = 5060
    user: str = "trunkline"
    codecs: tuple[str, ...] = CODECS
    jitter_ms: tuple[int, int] = (40, 200)
    rtp_ports: tuple[int, int] | None = None
    rtp_timeout_s: int = 30
    max_call_s: float = 3600.0
    ring_timeout_s: float = 60.0
    transfer_timeout_s: float = 60.0
    transports: tuple[Transport, ...] = ("udp",)
    tls: Tls | None = None
    srtp: Srtp = Srtp.OFF
    trunks: tuple[Trunk, ...] = ()
    networks: tuple[IPNetwork, ...] = ()
    called_headers: tuple[str, ...] = CALLED_HEADERS
    caller_headers: tuple[str, ...] = CALLER_HEADERS
    busy_status: int = BUSY

    def __post_init__(self) -> None:
        try:
            ipaddress.ip_address(self.host)
        except ValueError:
            raise ValueError(f"SIP host {self.host!r} is not an IP address") from None
        if not 0 <= self.port <= 65535:
            raise ValueError(f"SIP port {self.port} is not between 0 and 65535")
        if self.rtp_ports is not None and not 1024 <= self.rtp_ports[0] < self.rtp_ports[1] <= 65535:
            raise ValueError(f"RTP ports {self.rtp_ports} are not two ports between 1024 and 65535, lowest first")
        if not 0 < self.jitter_ms[0] <= self.jitter_ms[1]:
            raise ValueError(f"jitter buffer {self.jitter_ms} ms is not two positive numbers, lowest first")
        if self.rtp_timeout_s < 1 or min(self.max_call_s, self.ring_timeout_s, self.transfer_timeout_s) <= 0:
            raise ValueError("SIP timeouts must be positive")
        if self.busy_status not in (BUSY, UNAVAILABLE):
            raise ValueError(f"calls are declined with {BUSY} or {UNAVAILABLE}, not with {self.busy_status}")
        _require_choice("SIP codecs", self.codecs, CODECS)
        _require_choice("SIP transports", self.transports, TRANSPORTS)
        _require_choice("headers of the called number", self.called_headers, PARTY_HEADERS)
        _require_choice("headers of the caller", self.caller_headers, PARTY_HEADERS)
        self._check_tls()
        self._check_networks()
        names = [trunk.name for trunk in self.trunks]
        if len(set(names)) < len(names):
            raise ValueError(f"two trunks have the same name: {', '.join(names)}")

    def _check_tls(self) -> None:
        if "tls" in self.transports and self.tls is None:
            raise ValueError("SIP over TLS needs a certificate")
        if "tls" in self.transports and self.port == 65535:
            raise ValueError("SIP over TLS takes the port after the given one, and 65535 has none")
        for trunk in self.trunks:
            if trunk.transport not in self.transports:
                raise ValueError(f"trunk {trunk.name!r} wants {trunk.transport}, which is not among the SIP transports")

    def _check_networks(self) -> None:
        if len(self.networks) > MAX_NETWORKS:
            raise ValueError(f"{len(self.networks)} source networks are more than {MAX_NETWORKS}")
        for trunk in self.trunks:
            address = _address(trunk.proxy or trunk.domain)
            if self.networks and address and not any(address in network for network in self.networks):
                raise ValueError(
                    f"trunk {trunk.name!r} at {address} is in none of the source networks: no answer comes"
                )


def codecs_named(names: str) -> tuple[str, ...]:
    """Codecs from names such as `opus,pcmu`, for `SipSettings.codecs`.

    Raises:
        ValueError: an unknown name, one twice, or none.
    """
    given = tuple(part.strip().lower() for part in names.split(","))
    _require_choice("SIP codecs", given, tuple(CODEC_NAMES))
    return tuple(CODEC_NAMES[name] for name in given)


def networks_named(names: str) -> tuple[IPNetwork, ...]:
    """Networks from text such as `10.0.0.0/8, 192.0.2.7`, for `SipSettings.networks`; empty text gives none.

    Raises:
        ValueError: not an address or network, or host bits are set.
    """
    networks: list[IPNetwork] = []
    for part in filter(None, (part.strip() for part in names.split(","))):
        try:
            networks.append(ipaddress.ip_network(part))
        except ValueError as error:
            raise ValueError(f"{part!r} is not a network such as 192.0.2.0/24: {error}") from None
    return tuple(networks)


def _require_choice(what: str, given: tuple[str, ...], allowed: tuple[str, ...]) -> None:
    unknown = [name for name in given if name not in allowed]
    if unknown or not given or len(set(given)) < len(given):
        shown = ", ".join(given) or "none"
        raise ValueError(f"{what} must be some of {', '.join(allowed)}, each once (given: {shown})")


def _address(authority: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """None for a name."""
    try:
        return ipaddress.ip_address(re.sub(r":\d+$", "", authority).strip("[]"))
    except ValueError:
        return None


def _is_host_and_port(address: str) -> bool:
    host, _, port = address.rpartition(":") if re.search(r":\d+$", address) else (address, "", "1")
    return bool(HOST.fullmatch(host)) and 0 < int(port) <= 65535
