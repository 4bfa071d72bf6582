"""The language model's settings and the engine that they describe: one place for the service and for Triton."""

import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from services.common.errors import SetupError
from services.common.settings import ModelServiceSettings
from services.common.telemetry.model_service import EngineMeter
from services.lm.engine import Engine
from services.lm.prompt import ChatTemplate


class Settings(ModelServiceSettings):
    """Settings of the language model service."""

    model_config = SettingsConfigDict(env_prefix="TRUNKLINE_LM_")

    engine: Literal["torch", "vllm"] = Field("torch", description="what runs the model")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="number format of weights and activations; auto: float32 on the CPU, bfloat16 on a GPU"
    )
    quantization: Literal["none", "int4"] = Field("none", description="int4 stores the layers' matrices in four bits")
    kv_mib: int = Field(
        0, ge=0, description="memory for keys and values, MiB; 0: for all sessions at full length, or what the GPU has"
    )
    prefill_chunk: int = Field(
        0, ge=0, description="prompt tokens in a step beside answers under way; 0 is the device's default"
    )
    tensor_parallel: int = Field(1, ge=1, description="vllm: GPUs that share one model")
    gpu_memory_utilization: float = Field(0.9, gt=0, le=1, description="vllm: share of each GPU's memory to use")


@dataclass(frozen=True)
class Built:
    """An engine that runs.

    Attributes:
        engine: whichever one.
        revision: of the checkpoint.
        kv_tokens: tokens whose keys and values it can hold; 0 when it does not say.
        pending: sessions that have something to compute. From any thread.
        kv_used: share of the memory for keys and values that is taken; None where the engine does not say.
        meter: its times, where it takes them.
    """

    engine: Engine
    revision: str
    kv_tokens: int
    pending: Callable[[], int]
    kv_used: Callable[[], float] | None = None
    meter: EngineMeter | None = None


def build(settings: Settings, template: ChatTemplate) -> Built:
    """Loads the weights and starts an engine.

    Raises:
        WeightsError: the checkpoint is wrong.
        SetupError: the engine is not here, or cannot start the way it is set up.
    """
    return (_build_vllm if settings.engine == "vllm" else _build_torch)(settings, template)


# torch and vLLM take seconds to import: what is wrong with the settings or the small files is told before.
def _build_torch(settings: Settings, template: ChatTemplate) -> Built:
    from services.lm.torch_engine.build import TorchSettings, build

    described = TorchSettings(
        dtype=settings.dtype,
        quantization=settings.quantization,
        device=settings.device,
        threads=settings.threads,
        kv_mib=settings.kv_mib,
        capacity=settings.capacity,
        chunk=settings.prefill_chunk,
    )
    try:
        engine, revision = build(settings.weights, template, described)
    except ValueError as error:
        raise SetupError(str(error)) from error
    return Built(engine, revision, engine.kv_tokens, lambda: engine.pending, lambda: engine.kv_used, engine.meter)


def _build_vllm(settings: Settings, template: ChatTemplate) -> Built:
    from services.lm.vllm_engine.build import VllmSettings, build

    if settings.quantization != "none":
        raise SetupError(f"--quantization: {settings.quantization} needs --engine torch")
    described = VllmSettings(
        dtype=settings.dtype,
        device=settings.device,
        threads=settings.threads,
        kv_mib=settings.kv_mib,
        capacity=settings.capacity,
        chunk=settings.prefill_chunk,
        tensor_parallel=settings.tensor_parallel,
        gpu_memory_utilization=settings.gpu_memory_utilization,
        log_level=settings.log_level,
    )
    # vLLM's processes do not come back by themselves: the service ends, and whoever started it starts it again.
    try:
        engine, revision = build(
            settings.weights, template, described, died=lambda: signal.raise_signal(signal.SIGTERM)
        )
    except ValueError as error:
        raise SetupError(str(error)) from error
    return Built(engine, revision, engine.kv_tokens, lambda: engine.pending)
