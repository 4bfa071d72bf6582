"""Configuration of every process: command line first, then environment, then defaults."""

import sys
from pathlib import Path
from typing import Literal, NamedTuple, NoReturn, TypeVar

from pydantic import Field, ValidationError, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError


class ProcessSettings(BaseSettings):
    """What every Trunkline process can be told. Subclasses set their `env_prefix`."""

    model_config = SettingsConfigDict(cli_kebab_case=True, cli_hide_none_type=True, extra="ignore", cli_avoid_json=True)

    log_level: str = Field("INFO", description="DEBUG, INFO, WARNING or ERROR")
    log_personal_data: bool = Field(
        False, description="log numbers and what is said too, in fields whose names begin with pii_"
    )

    @field_validator("log_level")
    @classmethod
    def _known_level(cls, value: str) -> str:
        allowed = ("DEBUG", "INFO", "WARNING", "ERROR")
        if value.upper() not in allowed:
            raise ValueError(f"must be one of {', '.join(allowed)}")
        return value.upper()


class TritonTls(NamedTuple):
    """PEM files for the connection to Triton."""

    ca: Path
    certificate: Path | None
    key: Path | None


class ModelServiceSettings(ProcessSettings):
    """What the three model services share."""

    backend: Literal["local", "triton"] = Field(
        "local", description="where the model runs: in this process, or at a Triton Inference Server"
    )
    weights: Path = Field(
        Path(), validate_default=True, description="checkpoint directory, released layout; for the local backend"
    )
    triton_url: str = Field("127.0.0.1:8001", description="host:port of Triton's gRPC endpoint")
    triton_ca: Path | None = Field(None, description="PEM file: authorities of Triton's certificate; it is TLS then")
    triton_certificate: Path | None = Field(None, description="PEM chain that is shown to a Triton that asks for one")
    triton_key: Path | None = Field(None, validate_default=True, description="PEM private key of that certificate")
    wait_for_triton: float = Field(120.0, gt=0, le=3600, description="seconds that Triton may take to come up")
    listen: str = Field(description="host:port of the gRPC server; port 0 picks a free one")
    capacity: int = Field(8, ge=1, le=4096, description="streams served at once")
    drain_seconds: float = Field(
        25.0, ge=0, le=3600, description="after SIGTERM, what is under way has so long to end; idle, the service ends"
    )
    device: str = Field("cpu", description="torch device: cpu, cuda, cuda:1")
    threads: int = Field(0, ge=0, description="torch threads on the CPU; 0 leaves torch's default")

    @field_validator("weights")
    @classmethod
    def _named(cls, value: Path, info: ValidationInfo) -> Path:
        if value == Path() and info.data.get("backend") == "local":
            raise PydanticCustomError("missing", "Field required")
        return value

    @field_validator("triton_key")
    @classmethod
    def _with_its_certificate(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        certificate, ca = info.data.get("triton_certificate"), info.data.get("triton_ca")
        if (value is None) != (certificate is None):
            raise ValueError("triton_certificate and triton_key belong together")
        if certificate is not None and ca is None:
            raise ValueError("triton_certificate needs triton_ca: without it the connection is a plain one")
        return value

    @property
    def triton_tls(self) -> TritonTls | None:
        """Of the connection to Triton; None for a plain one."""
        return TritonTls(self.triton_ca, self.triton_certificate, self.triton_key) if self.triton_ca else None


S = TypeVar("S", bound=ProcessSettings)


def load(cls: type[S], prog: str) -> S:
    """Settings of a process from `sys.argv` and the environment; exits with status 2 and a plain line on bad ones."""
    try:
        return cls(_cli_parse_args=sys.argv[1:], _cli_prog_name=prog)
    except ValidationError as error:
        lines = []
        for item in error.errors():
            name = "--" + "-".join(str(part) for part in item["loc"]).replace("_", "-")
            given = "" if item["type"] == "missing" else f" (given: {item['input']!r})"
            lines.append(f"{name}: {item['msg']}{given}")
        fail(prog, "; ".join(lines))
    except SettingsError as error:
        fail(prog, str(error))


def fail(prog: str, message: str) -> NoReturn:
    """Ends a process that cannot start: one line on stderr, exit status 2."""
    print(f"{prog}: error: {message}", file=sys.stderr, flush=True)
    raise SystemExit(2)
