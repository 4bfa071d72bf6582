"""The phone line's settings, from what the agent was told and from the trunks file."""

import os
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from services.agent.legs.sip_settings import SipSettings, Srtp, Tls, Transport, Trunk, codecs_named, networks_named
from services.agent.outbound.placed import LONGEST_RING_S
from services.agent.secrets import SecretError, read_secret
from services.agent.settings import AgentSettings, split_address


class PhoneLineError(Exception):
    """The phone line cannot be set up as told; the message says what is wrong, without any password."""


class TrunkEntry(BaseModel):
    """One trunk in the file. Its password stands elsewhere: in a file or in an environment variable."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    domain: str = Field(description="host or host:port of the registrar")
    user: str
    auth_user: str | None = None
    password_file: Path | None = None
    password_env: str | None = None
    proxy: str | None = None
    transport: Transport = "udp"
    expires_s: int = 600
    srtp: Literal["off", "optional", "mandatory"] | None = None

    @model_validator(mode="after")
    def _one_password(self) -> "TrunkEntry":
        if self.password_file is not None and self.password_env is not None:
            raise ValueError("give password_file or password_env, not both")
        return self

    def trunk(self) -> Trunk:
        """With its password read.

        Raises:
            PhoneLineError: the password is not there.
            ValueError: a value that SIP cannot carry.
        """
        return Trunk(
            name=self.name,
            domain=self.domain,
            user=self.user,
            password=self._password(),
            auth_user=self.auth_user,
            proxy=self.proxy,
            transport=self.transport,
            expires_s=self.expires_s,
            srtp=Srtp(self.srtp) if self.srtp else None,
        )

    def _password(self) -> str:
        if self.password_env is not None:
            password = os.environ.get(self.password_env, "")
            if not password:
                raise PhoneLineError(f"trunk {self.name!r}: no password in environment variable {self.password_env}")
            return password
        try:
            return read_secret("", self.password_file, f"trunk {self.name!r}: password")
        except SecretError as error:
            raise PhoneLineError(str(error)) from None


def load_trunks(path: Path) -> tuple[Trunk, ...]:
    """The trunks of a YAML file: a list under `trunks`.

    Raises:
        PhoneLineError: unreadable, not YAML, or a trunk that cannot be used.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise PhoneLineError(f"trunks {path}: cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise PhoneLineError(f"trunks {path}: is not YAML: {' '.join(str(error).split())}") from error
    entries = content.get("trunks") if isinstance(content, dict) and set(content) == {"trunks"} else None
    if not isinstance(entries, list):
        raise PhoneLineError(f"trunks {path}: must be a mapping with a list `trunks` and nothing else")
    trunks = []
    for number, entry in enumerate(entries, 1):
        try:
            trunks.append(TrunkEntry.model_validate(entry).trunk())
        except ValidationError as error:
            problems = "; ".join(
                f"{'.'.join(str(part) for part in item['loc']) or 'entry'}: {item['msg']}" for item in error.errors()
            )
            raise PhoneLineError(f"trunks {path}: trunk {number}: {problems}") from None
        except (ValueError, PhoneLineError) as error:
            raise PhoneLineError(f"trunks {path}: {error}") from None
    return tuple(trunks)


def sip_settings(settings: AgentSettings) -> SipSettings:
    """What the SIP endpoint is to do; `settings.sip_listen` must be given.

    Raises:
        PhoneLineError: values that do not go together, or files that cannot be used.
    """
    host, port = split_address(settings.sip_listen)
    trunks = load_trunks(settings.sip_trunks) if settings.sip_trunks else ()
    try:
        return SipSettings(
            host,
            port,
            codecs=codecs_named(settings.sip_codecs),
            rtp_ports=settings.rtp_range,
            rtp_timeout_s=settings.rtp_timeout,
            max_call_s=settings.max_call_minutes * 60.0,
            ring_timeout_s=LONGEST_RING_S + 1.0,  # each call has a shorter one of its own
            transports=_transports(settings.sip_transports),
            tls=_tls(settings),
            srtp=Srtp(settings.sip_srtp),
            trunks=trunks,
            networks=networks_named(settings.sip_networks),
            called_headers=_names(settings.sip_called_headers),
            caller_headers=_names(settings.sip_caller_headers),
            busy_status=int(settings.sip_busy),
        )
    except ValueError as error:
        raise PhoneLineError(str(error)) from error


def _names(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(","))


def _transports(text: str) -> tuple[Transport, ...]:
    known: dict[str, Transport] = {"udp": "udp", "tcp": "tcp", "tls": "tls"}
    names = _names(text.lower())
    if any(name not in known for name in names):
        raise ValueError(f"SIP transports must be some of {', '.join(known)} (given: {text!r})")
    return tuple(known[name] for name in names)


def _tls(settings: AgentSettings) -> Tls | None:
    if settings.sip_tls_certificate is None:
        if settings.sip_tls_key is not None or settings.sip_tls_ca is not None:
            raise ValueError("--sip-tls-key and --sip-tls-ca need --sip-tls-certificate")
        return None
    return Tls(settings.sip_tls_certificate, settings.sip_tls_key, settings.sip_tls_ca)
