"""`python -m services.lm --weights DIR --listen HOST:PORT` serves a language model."""

import asyncio
import logging
import signal
from typing import Literal

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from services.common.errors import WeightsError
from services.common.grpc_server import Server, Slots, serve_until_signal
from services.common.settings import ModelServiceSettings, fail, load
from services.lm.engine import Engine
from services.lm.prompt import ChatTemplate
from services.lm.servicer import SERVICE, VoiceLMServicer
from trunkline.v1 import lm_pb2_grpc

PROG = "services.lm"


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


def main() -> None:
    """Loads everything, then serves until a signal. Exit status 2 when it cannot."""
    settings = load(Settings, PROG)
    logging.basicConfig(level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    if not settings.weights.is_dir():
        fail(PROG, f"--weights: {settings.weights} is not a directory")
    try:
        template = ChatTemplate.load(settings.weights)
        engine, revision, kv_tokens = (_vllm if settings.engine == "vllm" else _torch)(settings, template)
    except (WeightsError, ValueError) as error:
        fail(PROG, str(error))
    slots = Slots(settings.capacity, "language model sessions")
    servicer = VoiceLMServicer(engine, template, slots, revision, kv_tokens)
    try:
        asyncio.run(_serve(servicer, settings.listen, slots))
    except OSError as error:
        fail(PROG, str(error))
    finally:
        engine.stop()


# torch and vLLM take seconds to import: what is wrong with the settings or the small files is told before.
def _torch(settings: Settings, template: ChatTemplate) -> tuple[Engine, str, int]:
    from services.lm.torch_engine.build import TorchSettings, build

    engine, revision = build(
        settings.weights,
        template,
        TorchSettings(
            dtype=settings.dtype,
            quantization=settings.quantization,
            device=settings.device,
            threads=settings.threads,
            kv_mib=settings.kv_mib,
            capacity=settings.capacity,
            chunk=settings.prefill_chunk,
        ),
    )
    return engine, revision, engine.kv_tokens


def _vllm(settings: Settings, template: ChatTemplate) -> tuple[Engine, str, int]:
    from services.lm.vllm_engine.build import VllmSettings, build

    if settings.quantization != "none":
        raise ValueError(f"--quantization: {settings.quantization} needs --engine torch")
    engine, revision = build(
        settings.weights,
        template,
        VllmSettings(
            dtype=settings.dtype,
            device=settings.device,
            threads=settings.threads,
            kv_mib=settings.kv_mib,
            capacity=settings.capacity,
            chunk=settings.prefill_chunk,
            tensor_parallel=settings.tensor_parallel,
            gpu_memory_utilization=settings.gpu_memory_utilization,
            log_level=settings.log_level,
        ),
        # vLLM's processes do not come back by themselves: the service ends, and whoever started it starts it again.
        died=lambda: signal.raise_signal(signal.SIGTERM),
    )
    return engine, revision, engine.kv_tokens


async def _serve(servicer: VoiceLMServicer, address: str, slots: Slots) -> None:
    server = Server(
        SERVICE, lambda grpc_server: lm_pb2_grpc.add_VoiceLMServicer_to_server(servicer, grpc_server), address, slots
    )
    await serve_until_signal(server, PROG)


if __name__ == "__main__":
    main()
