"""What the agent can be told: `python -m services.agent --help`, or environment variables `TRUNKLINE_AGENT_...`."""

import re
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import SettingsConfigDict

from services.agent.api.rates import Rates
from services.agent.legs.base import LegKind
from services.agent.replicas.discovery import Targets
from services.agent.state.settings import StateSettings

_ADDRESS = re.compile(r"^(?P<host>[^\s:]+|\[[0-9a-fA-F:]+\]):(?P<port>\d{1,5})$")

_ORIGIN = re.compile(r"^https?://[^\s/:]+(:\d{1,5})?$")


def split_address(address: str) -> tuple[str, int]:
    """Host and port of a checked `host:port`."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def _names(value: str) -> list[str]:
    return [name.strip() for name in value.split(",") if name.strip()]


class AgentSettings(StateSettings):
    """Settings of one agent process."""

    model_config = SettingsConfigDict(env_prefix="TRUNKLINE_AGENT_")

    tokenizer: str = Field("127.0.0.1:50051", description="speech tokenizer replicas: host:port, ..., or dns:name:port")
    lm: str = Field("127.0.0.1:50052", description="voice LM replicas: host:port, ..., or dns:name:port")
    decoder: str = Field("127.0.0.1:50053", description="speech decoder replicas: host:port, ..., or dns:name:port")
    sip_listen: str = Field("127.0.0.1:5060", description="host:port of the SIP user agent; TLS: port + 1; empty: none")
    sip_transports: str = Field("udp", description="of udp, tcp, tls; the first one for calls to addresses without one")
    sip_tls_certificate: Path | None = Field(None, description="PEM file: our certificate with its chain")
    sip_tls_key: Path | None = Field(None, description="PEM file: its private key, if that is a file of its own")
    sip_tls_ca: Path | None = Field(None, description="PEM file: authorities of servers we call; none: unchecked")
    sip_srtp: Literal["off", "optional", "mandatory"] = Field("off", description="encrypted media, keys in the SDP")
    sip_codecs: str = Field("opus,g722,pcmu,pcma", description="in order of preference")
    sip_trunks: Path | None = Field(None, description="YAML file of providers to register at and to call through")
    sip_networks: str = Field("", description="source networks whose SIP is read, such as 10.0.0.0/8; empty for all")
    sip_called_headers: str = Field("P-Called-Party-ID,To", description="where the called number stands, best first")
    sip_caller_headers: str = Field("From", description="where the caller stands, best first")
    sip_busy: Literal["503", "486"] = Field(
        "503",
        description="calls over capacity: 503 with Retry-After, for an edge that tries elsewhere, or 486 for phones",
    )
    rtp_timeout: int = Field(30, ge=1, le=3600, description="seconds without media after which a call is given up")
    http_listen: str = Field("127.0.0.1:8080", description="host:port of the web page and its signalling")
    calls_listen: str = Field("127.0.0.1:50050", description="host:port of the Calls gRPC service; port 0: a free one")
    http_certificate: Path | None = Field(None, description="PEM chain of the web page's certificate: it is HTTPS then")
    http_key: Path | None = Field(None, validate_default=True, description="PEM private key of that certificate")
    web_origins: str = Field("", description="origins of other pages that may place calls, comma-separated (CORS)")
    resume_seconds: float = Field(20.0, ge=0, le=600, description="a browser's call outlives its connection by this")
    ice_servers: str = Field("", description="STUN and TURN URLs (RFC 7064, RFC 7065), comma-separated")
    turn_username: str = Field("", description="user of the TURN servers; empty: time-limited users from the secret")
    turn_secret: SecretStr = Field(
        SecretStr(""), description="that user's password, or without a user the secret shared with the TURN servers"
    )
    turn_secret_file: Path | None = Field(None, description="file to read the secret from instead")
    turn_ttl: int = Field(7200, ge=60, le=86_400, description="seconds for which time-limited TURN users are good")
    rtp_ports: str = Field("10000-10199", description="UDP ports for the media of phone calls, first-last")
    sip_workers: int = Field(
        2, ge=1, le=64, description="processes with a SIP user agent each, on the given port, the next but one, ..."
    )
    capacity: int = Field(8, ge=1, le=1024, description="calls at once")
    personas: Path = Field(Path("personas"), description="directory of persona files (*.yaml)")
    persona: str = Field("default", description="persona that answers numbers which no other one lists")
    wait_for_models: float = Field(30.0, gt=0, le=600, description="seconds the model services may take to come up")
    without_echo_canceller: str = Field(
        "webrtc", description="kinds of leg without echo cancellation, comma-separated; browsers have their own"
    )
    speculative: bool = Field(True, description="begin the answer in a pause that may be the end of the caller's turn")
    persona_files: Literal["seed", "only"] = Field(
        "seed", description="seed: files count until the API changes a persona; only: the API changes none"
    )
    persona_variables: str = Field(
        "TRUNKLINE_PERSONA_*,TRUNKLINE_TRANSFER_TARGET",
        description="environment variables that personas from the API may name, comma-separated; * for any letters",
    )
    api_keys: SecretStr = Field(SecretStr(""), description="keys of the HTTP API: name:role:hash,... (docs/api.md)")
    api_keys_file: Path | None = Field(None, description="file to read them from instead, one a line")
    api_rate: str = Field("20/second", description="requests with one key, such as 20/second;600/minute; empty: all")
    stranger_rate: str = Field("60/minute", description="requests to the API without a key, for each client address")
    page_rate: str = Field("20/second;600/minute", description="requests of web pages, for each client address")
    page_key: SecretStr = Field(SecretStr(""), description="key that web pages must present; empty: none")
    page_key_file: Path | None = Field(None, description="file to read it from instead")
    max_call_minutes: float = Field(60.0, gt=0, le=1440, description="a call is ended after this")
    drain_seconds: float = Field(
        600.0, ge=0, le=86_400, description="seconds that live calls may go on after SIGTERM; a second signal ends them"
    )
    drain_notice_seconds: float = Field(
        30.0, ge=0, le=600, description="seconds before the end of that time at which the callers are told"
    )
    kubernetes: Literal["auto", "on", "off"] = Field(
        "auto", description="tell Kubernetes of our calls (deletion cost, Lease); auto: in a pod with a service account"
    )
    kubernetes_account: Path = Field(
        Path("/var/run/secrets/kubernetes.io/serviceaccount"), description="directory of the pod's service account"
    )
    ring_timeout: float = Field(45.0, ge=1, le=180, description="seconds that a call which we place may ring")
    public_url: str = Field("", description="https://host where carriers call this agent's webhooks; empty for none")
    media_url: str = Field("", description="wss://host where they reach this very agent; empty: that of --public-url")
    recordings: str = Field("", description="directory for the recordings of personas that ask for them")
    recording_format: Literal["opus", "wav"] = Field("opus", description="how calls are recorded")
    agent_url: str = Field("", description="URL where others reach this very agent's API; empty: from --http-listen")
    transcript_model: Path | None = Field(
        None,
        description="directory of a Whisper model for CTranslate2, to write down what callers say",
    )
    transcript_threads: int = Field(1, ge=1, le=64, description="threads that this may use, at low priority")
    transcript_backlog: float = Field(
        60.0, ge=1, le=3600, description="seconds of speech that may wait to be written down; more is left out"
    )
    watermark: bool = Field(True, description="an inaudible mark in what the bots say (docs/watermark.md)")
    watermark_key: SecretStr = Field(SecretStr(""), description="with which it is found; empty: anyone can find it")
    watermark_key_file: Path | None = Field(None, description="file to read that key from instead")
    agent_id: str = Field("", description="name of this agent in leases; empty for one made from host and process")

    @field_validator("tokenizer", "lm", "decoder")
    @classmethod
    def _replicas(cls, value: str) -> str:
        Targets.parse(value)
        return value

    @field_validator("http_listen", "calls_listen")
    @classmethod
    def _address(cls, value: str) -> str:
        match = _ADDRESS.match(value)
        if match is None or int(match["port"]) > 65535:
            raise ValueError("must be host:port")
        return value

    @field_validator("sip_listen")
    @classmethod
    def _optional_address(cls, value: str) -> str:
        return cls._address(value) if value else value

    @field_validator("public_url", "media_url")
    @classmethod
    def _url(cls, value: str, info: ValidationInfo) -> str:
        scheme = "https" if info.field_name == "public_url" else "wss"
        if value and not re.fullmatch(scheme + r"://[^\s/?#@]+(/[^\s?#]*)?", value):
            raise ValueError(f"must be {scheme}://host, with a port and a path when needed")
        return value.rstrip("/")

    @field_validator("agent_url")
    @classmethod
    def _own_url(cls, value: str) -> str:
        if value and not re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#]*)?", value):
            raise ValueError("must be http://host or https://host, with a port and a path when needed")
        return value.rstrip("/")

    @field_validator("without_echo_canceller")
    @classmethod
    def _leg_kinds(cls, value: str) -> str:
        known = [kind.value for kind in LegKind]
        wrong = [name for name in _names(value) if name not in known]
        if wrong:
            raise ValueError(f"no kind of leg is called {wrong[0]!r}; there are: {', '.join(known)}")
        return value

    @field_validator("rtp_ports")
    @classmethod
    def _range(cls, value: str) -> str:
        first, dash, last = value.partition("-")
        if not (dash and first.isdigit() and last.isdigit() and 1024 <= int(first) < int(last) <= 65535):
            raise ValueError("must be first-last, 1024 to 65535, at least two ports")
        return value

    @field_validator("api_rate", "stranger_rate", "page_rate")
    @classmethod
    def _rate(cls, value: str) -> str:
        try:
            Rates(value)
        except ValueError:
            raise ValueError("must be like 20/second, or several such with ; between them") from None
        return value

    @field_validator("web_origins")
    @classmethod
    def _origins(cls, value: str) -> str:
        for origin in filter(None, (part.strip() for part in value.split(","))):
            if not _ORIGIN.match(origin):
                raise ValueError(f"{origin!r} is no origin, such as https://shop.example.org")
        return value

    @field_validator("http_key")
    @classmethod
    def _with_its_certificate(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        if (value is None) != (info.data.get("http_certificate") is None):
            raise ValueError("http_certificate and http_key belong together")
        return value

    @property
    def allowed_origins(self) -> list[str]:
        """Origins of other pages that may place calls."""
        return [origin for part in self.web_origins.split(",") if (origin := part.strip())]

    @property
    def allowed_variables(self) -> list[str]:
        """Patterns of environment variables that personas from the API may name."""
        return _names(self.persona_variables)

    @property
    def certificate(self) -> tuple[Path, Path] | None:
        """PEM files of the web page's certificate chain and key."""
        if self.http_certificate is None or self.http_key is None:
            return None
        return self.http_certificate, self.http_key

    def reached_at(self, port: int, own: str) -> str:
        """URL of this agent's HTTP side for others.

        Args:
            port: that it listens on.
            own: address of this machine, for an agent that listens on all of them.
        """
        host, _ = split_address(self.http_listen)
        if host in ("0.0.0.0", "::"):  # noqa: S104  compared, not bound
            host = own
        scheme = "https" if self.http_certificate is not None else "http"
        return self.agent_url or f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"

    @property
    def legs_without_echo_canceller(self) -> frozenset[LegKind]:
        """Kinds of leg whose audio is taken as it comes."""
        return frozenset(LegKind(name) for name in _names(self.without_echo_canceller))

    @property
    def rtp_range(self) -> tuple[int, int]:
        """First and last UDP port for media."""
        first, _, last = self.rtp_ports.partition("-")
        return int(first), int(last)
