"""What Triton's python backend calls: settings from config.pbtxt and the environment, an engine behind a `Host`."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from services.common import logs
from services.common.errors import SetupError, WeightsError
from services.common.settings import ModelServiceSettings
from services.common.telemetry.settings import TelemetrySettings
from services.common.telemetry.start import start
from services.common.telemetry.traces import TRACEPARENT
from services.common.triton_host import Command, Host, HostedModel
from services.common.triton_metrics import EngineMetrics
from services.common.triton_reply import Merge, Outbox, Reply, never
from services.common.triton_wire import COMMAND, Array

ROOT = Path(__file__).resolve().parents[2]


class HostSettings(ModelServiceSettings):
    """What Triton adds to a service's settings: they come from `parameters` of config.pbtxt, or the environment.

    Subclasses derive from the service's settings too, so that its variables are read here as well, and win.
    """

    listen: str = ""  # Triton listens
    weights: Path = Field(description="checkpoint directory; a relative one is looked for beside model_repo")
    lease_s: float = Field(30.0, gt=0, description="a session that says nothing for so long is ended, seconds")

    @field_validator("weights")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return ROOT / value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment before config.pbtxt."""
        return env_settings, init_settings


S = TypeVar("S", bound=HostSettings)


def read_settings(cls: type[S], config: str) -> S:
    """Settings of a model.

    Args:
        cls: which settings.
        config: the model's configuration, as Triton gives it: JSON.

    Raises:
        ValueError: one is missing or out of range; says which.
    """
    parameters = {name: item["string_value"] for name, item in json.loads(config).get("parameters", {}).items()}
    try:
        return cls(**parameters)
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()]
        raise ValueError("; ".join(lines)) from error


class PythonModel(Generic[S]):
    """The class that model.py of each model derives from.

    Attributes:
        backend: the module `triton_python_backend_utils`, which exists inside Triton only.
        settings: the model's settings.
        load: makes the hosted model. May raise WeightsError or SetupError.
        to_tensor, merge: see `Outbox`.
    """

    backend: Any
    settings: type[S]
    load: Callable[[S], HostedModel]
    to_tensor: Callable[[Array], Any]
    merge: Merge = staticmethod(never)

    def initialize(self, args: Mapping[str, str]) -> None:
        """Called by Triton once."""
        name = args["model_name"]
        try:
            settings = read_settings(self.settings, args["model_config"])
            telemetry = TelemetrySettings.read()
            logs.set_up(settings.log_level, settings.log_personal_data, f"{name} ", telemetry.log_format)
            start("triton", telemetry.without_endpoint())
            model = type(self).load(settings)
        except (WeightsError, SetupError, ValueError) as error:
            raise self.backend.TritonModelException(f"{name}: {error}") from error
        family = self.backend.MetricFamily(
            name="trunkline_sessions",
            description="Sessions live now, and how many the model takes",
            kind=self.backend.MetricFamily.GAUGE,
        )
        live = family.Metric(labels={"model": name, "state": "live"})
        family.Metric(labels={"model": name, "state": "capacity"}).set(settings.capacity)
        self._family = family  # Triton forgets a metric whose family is gone
        outbox = Outbox(self.backend, type(self).to_tensor, type(self).merge)
        self._outbox = outbox
        metrics = EngineMetrics(self.backend, model.watched)
        self._host = Host(model, outbox, settings.capacity, settings.lease_s, live.set, metrics.publish, name)
        self._host.start()

    def execute(self, requests: Sequence[Any]) -> None:
        """Called by Triton for each request; the answers come from elsewhere."""
        for request in requests:
            reply = Reply(request.get_response_sender(), self._outbox)
            try:
                self._host.submit(_command(request), reply)
            except Exception as error:  # raised, it would end the request behind the reply's back
                reply.fail(error)

    def finalize(self) -> None:
        """Called by Triton at the end."""
        self._host.stop()


def _command(request: Any) -> Command:
    parameters = json.loads(request.parameters() or "{}")
    # copied: the memory is the request's, which may be gone before the command is executed
    inputs = {tensor.name(): np.from_dlpack(tensor).copy() for tensor in request.inputs()}
    name, trace = parameters.pop(COMMAND, ""), parameters.pop(TRACEPARENT, "")
    return Command(name, str(request.correlation_id() or ""), inputs, parameters, trace)
