"""The tokenizer's settings and the engine that they describe: one place for the service and for Triton."""

from typing import Literal

import torch
from pydantic import Field
from pydantic_settings import SettingsConfigDict

from services.common.errors import SetupError
from services.common.settings import ModelServiceSettings
from services.tokenizer.engine import CPU_BATCH_FRAMES, GPU_BATCH_FRAMES, TokenizerEngine
from services.tokenizer.weights import load


class Settings(ModelServiceSettings):
    """Settings of the tokenizer service."""

    model_config = SettingsConfigDict(env_prefix="TRUNKLINE_TOKENIZER_")

    max_seconds: int = Field(120, ge=1, le=3600, description="longest utterance")
    interim_tokens: int = Field(4, ge=1, description="new tokens between two interim results")
    batch_frames: int = Field(
        0,
        ge=0,
        description="frames (50 a second) encoded together, padding included; "
        f"0: {CPU_BATCH_FRAMES} on the CPU, {GPU_BATCH_FRAMES} on a GPU",
    )
    mode: Literal["stream", "whole"] = Field(
        "stream", description="encode while the caller speaks, or whole utterances at their end as the reference does"
    )
    dtype: Literal["float32", "float16", "bfloat16"] = Field("float32", description="precision of the encoder")


def build(settings: Settings) -> TokenizerEngine:
    """Loads the weights and makes the engine.

    Raises:
        WeightsError: the checkpoint is wrong.
        SetupError: the device cannot be used.
    """
    if settings.threads:
        torch.set_num_threads(settings.threads)
    try:
        torch.empty(1, device=settings.device)
    except (RuntimeError, AssertionError) as error:
        raise SetupError(f"--device: cannot use {settings.device!r}: {str(error).splitlines()[0]}") from error
    checkpoint = load(settings.weights, settings.device, getattr(torch, settings.dtype))
    whole = settings.mode == "whole"
    return TokenizerEngine(checkpoint, settings.max_seconds, settings.interim_tokens, settings.batch_frames, whole)
