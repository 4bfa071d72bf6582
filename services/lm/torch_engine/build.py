"""Puts the torch engine together from a checkpoint."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from services.common.errors import WeightsError
from services.lm import weights
from services.lm.prompt import ChatTemplate
from services.lm.torch_engine import parameters
from services.lm.torch_engine.blocks import BLOCK_TOKENS, blocks_for
from services.lm.torch_engine.cache import CacheShape
from services.lm.torch_engine.engine import TorchEngine
from services.lm.torch_engine.planning import Chunks
from services.lm.torch_engine.runner import Runner
from services.lm.torch_engine.scheduler import Scheduler

MIB = 2**20
# Tokens of prompts in one step, beside answers and without: such a step must not take much longer than an ordinary one.
# Measured with weights/nano on two cores, calculated for the 9B model on a GPU.
_CHUNKS = {"cpu": (24, 256), "cuda": (256, 1024)}
# Of the GPU's memory that is free once the weights are loaded; the rest is for a step's own results.
_GPU_SHARE = 0.8


@dataclass(frozen=True)
class TorchSettings:
    """How the torch engine runs.

    Attributes:
        dtype: number format of weights and activations; `auto` is float32 on the CPU and bfloat16 on a GPU.
        quantization: `int4` stores the layers' matrices in four bits.
        threads: torch's on the CPU; 0 leaves its default.
        kv_mib: memory for keys and values, MiB; 0 is enough for all sessions at full length, or what the GPU has.
        capacity: sessions that may be open at once.
        chunk: tokens of prompts in a step beside answers; 0 is the device's default.
    """

    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    quantization: Literal["none", "int4"] = "none"
    device: str = "cpu"
    threads: int = 0
    kv_mib: int = 0
    capacity: int = 8
    chunk: int = 0


def build(directory: Path, template: ChatTemplate, settings: TorchSettings) -> tuple[TorchEngine, str]:
    """Loads the weights and starts the engine. Returns it and the checkpoint's revision.

    Raises:
        WeightsError: the checkpoint is wrong, or its tokenizer has more ids than its model.
        ValueError: a setting does not suit this machine or model; the message names it.
    """
    checkpoint = weights.inspect(directory)
    _check_ids(checkpoint, template)
    if settings.threads:
        torch.set_num_threads(settings.threads)
    device = _device(settings.device)
    dtype = _dtype(settings, device)
    try:
        network = parameters.load(checkpoint, dtype, device, settings.quantization == "int4")
    except ValueError as error:
        raise ValueError(f"--quantization: {error}") from error
    architecture = checkpoint.architecture
    runner = Runner(network, kv_tokens(architecture, dtype, device, settings), settings.capacity)
    chunks = chunks_for(architecture, device, settings.chunk)
    scheduler = Scheduler(runner, template, architecture.context_length, architecture.end_tokens, chunks)
    return TorchEngine(scheduler), checkpoint.revision


def chunks_for(architecture: weights.Architecture, device: torch.device, chunk: int = 0) -> Chunks:
    """How prompts are cut; `chunk` is the part beside answers where it is set."""
    answering, silent = _CHUNKS.get(device.type, _CHUNKS["cuda"])
    answering = chunk or answering
    # An answer's step must always have room for a token of a prompt, however far into the session.
    answering = max(answering, math.ceil(1 + architecture.context_length / architecture.reach))
    return Chunks(answering, max(silent, answering), architecture.reach)


def kv_tokens(
    architecture: weights.Architecture, dtype: torch.dtype, device: torch.device, settings: TorchSettings
) -> int:
    """Tokens whose keys and values fit into the memory for them.

    Raises:
        ValueError: one session of full length does not fit.
    """
    block = CacheShape.of(architecture).block_bytes(dtype)
    least = blocks_for(architecture.context_length)
    blocks = settings.capacity * least
    if settings.kv_mib:
        blocks = settings.kv_mib * MIB // block
    elif device.type == "cuda":
        blocks = min(blocks, int(_GPU_SHARE * torch.cuda.mem_get_info(device)[0]) // block)
    if blocks < least:
        raise ValueError(
            f"--kv-mib: {blocks * block // MIB} MiB are too few; "
            f"one session of {architecture.context_length} tokens needs {-(-least * block // MIB)} MiB"
        )
    return blocks * BLOCK_TOKENS


def _device(name: str) -> torch.device:
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"--device: {name} cannot be used: {str(error).splitlines()[0]}") from error
    return torch.device(name)


def _dtype(settings: TorchSettings, device: torch.device) -> torch.dtype:
    on_cpu = device.type == "cpu"
    name = settings.dtype if settings.dtype != "auto" else "float32" if on_cpu else "bfloat16"
    if settings.quantization == "int4" and not on_cpu and name != "bfloat16":
        raise ValueError(f"--quantization: int4 on {device} needs --dtype bfloat16, not {name}")
    return parameters.DTYPES[name]


def _check_ids(checkpoint: weights.Checkpoint, template: ChatTemplate) -> None:
    size = checkpoint.architecture.vocabulary
    highest = max((template.vocabulary.size - 1, *checkpoint.architecture.end_tokens))
    if highest >= size:
        raise WeightsError(
            f"{checkpoint.directory}: the tokenizer or eos_token_id has ids up to {highest}, "
            f"config.json's padded_vocab_size is {size}"
        )
