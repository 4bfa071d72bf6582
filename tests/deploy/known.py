"""Environment variables that the processes in containers read, from the code that reads them."""

import re

from pydantic_settings import BaseSettings

from services.agent.carriers.settings import CarrierSettings
from services.agent.settings import AgentSettings
from services.common.security import GrpcSecurity
from services.common.telemetry.settings import TelemetrySettings
from services.decoder.build import Settings as DecoderSettings
from services.decoder.triton_model import TritonSettings as DecoderAtTriton
from services.lm.build import Settings as LmSettings
from services.lm.triton_model import TritonSettings as LmAtTriton
from services.tokenizer.build import Settings as TokenizerSettings
from services.tokenizer.triton_model import TritonSettings as TokenizerAtTriton
from tests.deploy.dockerfiles import ROOT

OF_SERVICES: dict[str, tuple[type[BaseSettings], ...]] = {
    "agent": (AgentSettings, CarrierSettings, GrpcSecurity, TelemetrySettings),
    "tokenizer": (TokenizerSettings, GrpcSecurity, TelemetrySettings),
    "lm": (LmSettings, GrpcSecurity, TelemetrySettings),
    "decoder": (DecoderSettings, GrpcSecurity, TelemetrySettings),
    "triton": (TokenizerAtTriton, LmAtTriton, DecoderAtTriton, TelemetrySettings),
}
# What pip, Python, OpenTelemetry, NVIDIA's runtime and the loader read.
_OTHERS = re.compile(r"(PYTHON|OTEL_|NVIDIA_)\w+|HOME|PATH|NUMBA_CACHE_DIR")
_OF_CONFIGURATION = {
    "kamailio": (ROOT / "deploy" / "kamailio" / "kamailio.cfg", r"trydefenvs? \w+=(\w+)"),
    "coturn": (ROOT / "deploy" / "coturn" / "start.sh", r"(TRUNKLINE_TURN_\w+)"),
}


def variables(name: str) -> set[str]:
    """What a service reads: its settings, or the variables in its configuration."""
    if name in _OF_CONFIGURATION:
        path, pattern = _OF_CONFIGURATION[name]
        return set(re.findall(pattern, path.read_text()))
    return {
        f"{settings.model_config.get('env_prefix', '')}{field}".upper()
        for settings in OF_SERVICES[name]
        for field in settings.model_fields
    }


def unknown(name: str, environment: dict[str, str]) -> set[str]:
    """Variables that a service is given and does not read."""
    return {key for key in environment if key not in variables(name) and not _OTHERS.fullmatch(key)}
