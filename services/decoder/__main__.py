"""`python -m services.decoder --weights DIR --listen 127.0.0.1:50053`."""

import asyncio
import logging
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from pydantic import Field
from pydantic_settings import SettingsConfigDict

from services.common.errors import WeightsError
from services.common.grpc_server import serve_until_signal
from services.common.settings import ModelServiceSettings, fail, load
from services.decoder import weights
from services.decoder.batcher import FRAME_BUDGET
from services.decoder.engine import DecoderEngine
from services.decoder.servicer import make_server

if TYPE_CHECKING:  # onnxruntime is loaded only where such a model is configured
    from services.decoder.speaker import SpeakerEncoder

PROG = "services.decoder"


class Settings(ModelServiceSettings):
    """Settings of the decoder service."""

    model_config = SettingsConfigDict(env_prefix="TRUNKLINE_DECODER_")

    max_voices: int = Field(64, ge=1, le=4096, description="registered voices kept at once")
    flow_steps: int | None = Field(
        None, ge=1, le=100, description="Euler steps of the flow; the weights' own config.yaml decides when not given"
    )
    temperature: float | None = Field(
        None, ge=0, le=2, description="scale of the flow's noise; the weights' own config.yaml decides when not given"
    )
    speaker_model: Path | None = Field(
        None, description="speaker-embedding model in ONNX, such as CAM++; registered voices then have an embedding"
    )
    frame_budget: int = Field(
        FRAME_BUDGET, ge=256, le=1_000_000, description="mel frames of all streams that one step of the flow computes"
    )


def load_models(settings: Settings) -> tuple[weights.Checkpoint, "SpeakerEncoder | None"]:
    """The decoder's models, and the speaker encoder where one is configured.

    Raises:
        WeightsError: a file is missing or does not fit.
    """
    checkpoint = weights.load(settings.weights, settings.device).sampled(settings.flow_steps, settings.temperature)
    if settings.speaker_model is None:
        return checkpoint, None
    from services.decoder.speaker import SpeakerEncoder

    return checkpoint, SpeakerEncoder(settings.speaker_model, checkpoint.config.flow.spk_embed_dim)


async def run(settings: Settings, checkpoint: weights.Checkpoint, speaker_encoder: "SpeakerEncoder | None") -> None:
    """Serves until a signal.

    Raises:
        OSError: the address cannot be listened on.
    """
    engine = DecoderEngine(checkpoint, settings.max_voices, settings.frame_budget, speaker_encoder)
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
        asyncio.run(run(settings, *load_models(settings)))
    except (WeightsError, OSError) as error:
        fail(PROG, str(error))


if __name__ == "__main__":
    main()
