"""The decoder's settings and the engine that they describe: one place for the service and for Triton."""

from pathlib import Path

import torch
from pydantic import Field
from pydantic_settings import SettingsConfigDict

from services.common.errors import SetupError
from services.common.settings import ModelServiceSettings
from services.decoder.batcher import FRAME_BUDGET
from services.decoder.engine import DecoderEngine
from services.decoder.weights import load

SPEAKER_FILE = "speaker.onnx"  # among the weights


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
        None,
        description="speaker-embedding model in ONNX, such as CAM++, for registered voices; default: the weights' own "
        "speaker.onnx, if there is one",
    )
    frame_budget: int = Field(
        FRAME_BUDGET, ge=256, le=1_000_000, description="mel frames of all streams that one step of the flow computes"
    )


def build(settings: Settings) -> DecoderEngine:
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
    checkpoint = load(settings.weights, settings.device).sampled(settings.flow_steps, settings.temperature)
    encoder = None
    beside = settings.weights / SPEAKER_FILE
    speaker_model = settings.speaker_model or (beside if beside.is_file() else None)
    if speaker_model is not None:
        from services.decoder.speaker import SpeakerEncoder  # onnxruntime is loaded only where it is needed

        encoder = SpeakerEncoder(speaker_model, checkpoint.config.flow.spk_embed_dim)
    return DecoderEngine(checkpoint, settings.max_voices, settings.frame_budget, encoder)
