"""Puts the vLLM engine together from a checkpoint."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from services.common.errors import WeightsError
from services.lm.prompt import ChatTemplate
from services.lm.vllm_engine.parking import Parking
from services.lm.weights import Architecture, Checkpoint, inspect

if TYPE_CHECKING:
    from services.lm.vllm_engine.engine import VllmEngine

MIB = 2**20
# Tokens of one step: bounds how long a long prompt can hold up the answers of others.
_CHUNK = 512
# What vLLM's attention on the CPU has been built for: heads of so many dimensions, and this size of block.
_CPU_HEADS = (32, 64, 80, 96, 112, 128, 160, 192, 224, 256, 512)
_CPU_BLOCK = 128
# What vLLM does not take for granted where config.json is silent.
_CONFIG = {"add_qkv_bias": True, "original_rope": True}
_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True)
class VllmSettings:
    """How vLLM runs.

    Attributes:
        dtype: number format of weights and activations; `auto` is float32 on the CPU and bfloat16 on a GPU.
        device: cpu or cuda: what this vLLM was built for.
        threads: on the CPU; 0 leaves vLLM's default.
        kv_mib: memory for keys and values on each device, MiB; 0 is enough for all sessions at full length on the CPU,
            and what `gpu_memory_utilization` leaves on a GPU.
        capacity: sessions that may be open at once.
        chunk: tokens of prompts in a step; 0 is the default.
        tensor_parallel: GPUs that share one model.
        gpu_memory_utilization: share of each GPU's memory for weights, activations, keys and values.
        log_level: of vLLM's log, which goes to stderr.
    """

    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    device: str = "cpu"
    threads: int = 0
    kv_mib: int = 0
    capacity: int = 8
    chunk: int = 0
    tensor_parallel: int = 1
    gpu_memory_utilization: float = 0.9
    log_level: str = "WARNING"


def build(
    directory: Path, template: ChatTemplate, settings: VllmSettings, died: Callable[[], None]
) -> "tuple[VllmEngine, str]":
    """Starts vLLM's processes and waits until they have loaded the weights. Returns the engine and the revision.

    Args:
        died: called when those processes are found dead; the engine is of no use then.

    Raises:
        WeightsError: the checkpoint is wrong.
        ValueError: vLLM is not here, or a setting does not suit it or this machine.
    """
    if find_spec("vllm") is None:
        raise ValueError("--engine: vLLM is not installed in this environment")
    # Before vLLM looks at it: its errors come late, from another process, and as a stack trace.
    checkpoint = inspect(directory)
    architecture = checkpoint.architecture
    on_cpu = settings.device == "cpu"
    _check(checkpoint, template, on_cpu)
    dtype = settings.dtype if settings.dtype != "auto" else "float32" if on_cpu else "bfloat16"
    kv_bytes = _kv_bytes(architecture, dtype, settings)
    _set_environment(settings)
    from vllm import AsyncEngineArgs
    from vllm.platforms import current_platform
    from vllm.v1.engine.async_llm import AsyncLLM

    from services.lm.vllm_engine.engine import VllmEngine
    from services.lm.vllm_engine.session import Core

    if settings.device != current_platform.device_type:
        raise ValueError(
            f"--device: {settings.device} cannot be used, this vLLM was built for {current_platform.device_type}"
        )
    # One more than a session has: vLLM counts the token that it samples, also when nobody wants it.
    length = architecture.context_length + 1
    arguments = AsyncEngineArgs(
        model=str(directory),
        skip_tokenizer_init=True,
        dtype=dtype,
        generation_config="vllm",  # nothing but what a request says
        hf_overrides=_CONFIG | {"seq_length": length, "max_position_embeddings": length},
        max_model_len=length,
        max_num_seqs=settings.capacity,
        max_num_batched_tokens=max(settings.chunk or _CHUNK, settings.capacity),
        enable_prefix_caching=True,
        logits_processors=["services.lm.vllm_engine.sampler:AnswerSampler"],
        # The sampler needs each step's tokens before the next one anyhow.
        async_scheduling=False,
        tensor_parallel_size=settings.tensor_parallel,
        gpu_memory_utilization=settings.gpu_memory_utilization,
        kv_cache_memory_bytes=kv_bytes,
        enforce_eager=on_cpu,  # compiling takes a minute and needs a C++ compiler; graphs are a matter of GPUs
        disable_log_stats=True,
    )
    try:
        llm = AsyncLLM.from_engine_args(arguments)
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"--engine: vLLM did not start: {' '.join(str(error).split())}") from error
    cache = llm.vllm_config.cache_config
    # vLLM keeps one block for itself.
    kv_tokens = (cache.num_gpu_blocks - 1) * cache.block_size
    core = Core(
        llm=llm,
        template=template,
        end=frozenset(architecture.end_tokens) | {template.end},
        context_length=architecture.context_length,
        kv_tokens=kv_tokens,
        # What waits leaves room for one session of full length, which can then be computed.
        parking=Parking(max(kv_tokens - length - cache.block_size, 0), cache.block_size),
        died=died,
    )
    return VllmEngine(core), checkpoint.revision


def _check(checkpoint: Checkpoint, template: ChatTemplate, on_cpu: bool) -> None:
    """What vLLM asks of a checkpoint beside what `inspect` does."""
    architecture = checkpoint.architecture
    highest = max((template.vocabulary.size - 1, *architecture.end_tokens))
    if highest >= architecture.vocabulary:
        raise WeightsError(
            f"{checkpoint.directory}: the tokenizer or eos_token_id has ids up to {highest}, "
            f"config.json's padded_vocab_size is {architecture.vocabulary}"
        )
    if architecture.heads * architecture.size != architecture.hidden:
        raise WeightsError("config.json: vLLM wants hidden_size to be num_attention_heads times kv_channels")
    if on_cpu and architecture.size not in _CPU_HEADS:
        sizes = ", ".join(map(str, _CPU_HEADS))
        raise WeightsError(f"config.json: kv_channels is {architecture.size}; vLLM on the CPU supports {sizes}")


def _kv_bytes(architecture: Architecture, dtype: str, settings: VllmSettings) -> int | None:
    """Memory for keys and values; None leaves it to vLLM.

    Raises:
        ValueError: one session of full length does not fit.
    """
    heads = max(architecture.kv_heads // settings.tensor_parallel, 1)
    block = _CPU_BLOCK * architecture.layers * 2 * heads * architecture.size * _BYTES[dtype]
    # A session, the token that nobody wants, and the block that vLLM keeps for itself.
    least = architecture.context_length // _CPU_BLOCK + 2
    if settings.kv_mib:
        if settings.kv_mib * MIB < least * block:
            raise ValueError(
                f"--kv-mib: {settings.kv_mib} MiB are too few; one session of {architecture.context_length} tokens "
                f"needs {-(-least * block // MIB)} MiB"
            )
        return settings.kv_mib * MIB
    return settings.capacity * least * block if settings.device == "cpu" else None


def _set_environment(settings: VllmSettings) -> None:
    """vLLM reads these when it is imported, and hands them on to its processes."""
    os.environ |= {
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        # its DEBUG lines quote what is said
        "VLLM_LOGGING_LEVEL": "INFO" if settings.log_level == "DEBUG" else settings.log_level,
        "VLLM_LOGGING_STREAM": "ext://sys.stderr",
        "VLLM_USE_V2_MODEL_RUNNER": "0",  # it has another interface for logits processors
    }
    if settings.threads:
        os.environ |= {"OMP_NUM_THREADS": str(settings.threads), "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
