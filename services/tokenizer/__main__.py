"""`python -m services.tokenizer --weights DIR --listen 127.0.0.1:50051`."""

import asyncio
import logging
from typing import Literal

import torch
from pydantic import Field
from pydantic_settings import SettingsConfigDict

from services.common.errors import WeightsError
from services.common.grpc_server import serve_until_signal
from services.common.settings import ModelServiceSettings, fail, load
from services.tokenizer.engine import CPU_BATCH_FRAMES, GPU_BATCH_FRAMES, TokenizerEngine
from services.tokenizer.servicer import make_server
from services.tokenizer.weights import Checkpoint
from services.tokenizer.weights import load as load_weights

PROG = "services.tokenizer"


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


async def run(settings: Settings, checkpoint: Checkpoint) -> None:
    """Serves until a signal.

    Raises:
        OSError: the address cannot be listened on.
    """
    engine = TokenizerEngine(
        checkpoint, settings.max_seconds, settings.interim_tokens, settings.batch_frames, settings.mode == "whole"
    )
    try:
        await engine.warm_up()
        await serve_until_signal(make_server(engine, settings.listen, settings.capacity), PROG)
    finally:
        engine.close()


def check_device(name: str) -> None:
    """Ends the process where torch cannot compute on the device."""
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError) as error:
        fail(PROG, f"--device: cannot use {name!r}: {str(error).splitlines()[0]}")


def main() -> None:
    """Exits with status 2 and one line on stderr where settings, weights, device or port are not usable."""
    settings = load(Settings, PROG)
    logging.basicConfig(level=settings.log_level)
    if settings.threads:
        torch.set_num_threads(settings.threads)
    check_device(settings.device)
    try:
        checkpoint = load_weights(settings.weights, settings.device, getattr(torch, settings.dtype))
        asyncio.run(run(settings, checkpoint))
    except (WeightsError, OSError) as error:
        fail(PROG, str(error))


if __name__ == "__main__":
    main()
