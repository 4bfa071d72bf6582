"""What the agent can be told about Redis and what it keeps there."""

import os
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr

from services.agent.secrets import SecretError, read_secret
from services.agent.state.address import StateError
from services.agent.state.sealing import Sealer
from services.agent.state.times import Times
from services.common.settings import ProcessSettings


def _redis_url() -> str:
    return os.environ.get("REDIS_URL") or "redis://127.0.0.1:6379/0"


class StateSettings(ProcessSettings):
    """The part of the agent's settings that concerns its state; docs/state.md explains it."""

    redis_url: str = Field(
        default_factory=_redis_url,
        description="redis[s]://, redis[s]+sentinel://host,.../service or redis[s]+cluster://host,...; also REDIS_URL",
    )
    redis_username: str = Field("", description="ACL user, if not in the URL")
    redis_password: SecretStr = Field(SecretStr(""), description="password, if not in the URL")
    redis_password_file: Path | None = Field(None, description="file to read the password from instead")
    redis_sentinel_username: str = Field("", description="ACL user of the Sentinels themselves, if they have users")
    redis_sentinel_password: SecretStr = Field(SecretStr(""), description="its password")
    redis_sentinel_password_file: Path | None = Field(None, description="file to read it from instead")
    redis_tls_ca: Path | None = Field(None, description="PEM file: authorities of Redis; empty: the system's")
    redis_tls_certificate: Path | None = Field(None, description="PEM file: our certificate for Redis")
    redis_tls_key: Path | None = Field(None, description="PEM file: its private key")
    redis_tls_check_hostname: bool = Field(True, description="the certificate must name the host we connect to")
    redis_away: Literal["refuse", "admit"] = Field("refuse", description="new calls while Redis is away")
    lease_seconds: float = Field(15.0, ge=1, le=600, description="a dead agent's calls are marked lost after this")
    keep_ended_hours: float = Field(168.0, gt=0, le=87_600, description="ended calls and conversations stay so long")
    resume_lost_seconds: int = Field(600, ge=1, le=86_400, description="a lost call can be gone on with for so long")
    state_keys: SecretStr = Field(
        SecretStr(""), description="keys to encrypt conversations and numbers with, name:base64,...; first one writes"
    )
    state_keys_file: Path | None = Field(None, description="file to read these keys from instead")
    redis_prefix: str = Field("trunkline:", max_length=64, description="in front of every key")

    def times(self) -> Times:
        """How long things stay."""
        return Times(self.lease_seconds, int(self.keep_ended_hours * 3600), self.resume_lost_seconds)

    def sealer(self) -> Sealer:
        """Encryption with the keys that are set.

        Raises:
            StateError: they are unusable, or their file is.
        """
        return Sealer.parse(secret(self.state_keys, self.state_keys_file, "the state keys"))


def secret(value: SecretStr, file: Path | None, what: str) -> str:
    """A secret from its setting, or from the file that holds it.

    Raises:
        StateError: both are given, or the file cannot be read or is empty.
    """
    try:
        return read_secret(value, file, what)
    except SecretError as error:
        raise StateError(str(error)) from None
