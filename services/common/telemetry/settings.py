"""What every process reads from the same variables: `TRUNKLINE_METRICS_LISTEN`, `TRUNKLINE_LOG_FORMAT`."""

import re
from typing import Literal

from pydantic import ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.common.errors import SetupError

PREFIX = "TRUNKLINE_"
_ADDRESS = re.compile(r"^(?P<host>[^\s:]+|\[[0-9a-fA-F:]+\]):(?P<port>\d{1,5})$")


class TelemetrySettings(BaseSettings):
    """What is told to whom. OTLP has OpenTelemetry's own variables: see `services.common.telemetry.start`.

    Attributes:
        metrics_listen: `host:port` of the Prometheus endpoint `/metrics`, port 0 for a free one; empty: none.
        log_format: of log lines.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", env_ignore_empty=True)

    metrics_listen: str = ""
    log_format: Literal["text", "json"] = "text"

    @field_validator("metrics_listen")
    @classmethod
    def _address(cls, value: str) -> str:
        match = _ADDRESS.match(value)
        if value and (match is None or int(match["port"]) > 65535):
            raise ValueError("must be host:port")
        return value

    @classmethod
    def read(cls) -> "TelemetrySettings":
        """From the environment.

        Raises:
            SetupError: a variable is unusable; names it.
        """
        try:
            return cls()
        except ValidationError as error:
            wrong = error.errors()[0]
            raise SetupError(f"{PREFIX}{str(wrong['loc'][0]).upper()}: {wrong['msg']}") from None

    def without_endpoint(self) -> "TelemetrySettings":
        """The same where somebody else serves the metrics."""
        return self.model_copy(update={"metrics_listen": ""})

    @property
    def metrics_address(self) -> tuple[str, int] | None:
        """Host and port of the endpoint; None where there is none."""
        if not self.metrics_listen:
            return None
        host, _, port = self.metrics_listen.rpartition(":")
        return host.strip("[]"), int(port)
