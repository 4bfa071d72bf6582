"""`python -m services.lm --weights DIR --listen HOST:PORT` serves a language model."""

import asyncio
import logging
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field
from pydantic_settings import SettingsConfigDict

from services.common.errors import WeightsError
from services.common.grpc_server import Server, Slots, serve_until_signal
from services.common.settings import ModelServiceSettings, fail, load
from services.lm import weights
from services.lm.prompt import ChatTemplate
from services.lm.servicer import SERVICE, VoiceLMServicer
from services.lm.torch_engine.engine import TorchEngine
from services.lm.torch_engine.runner import Runner
from services.lm.torch_engine.scheduler import Scheduler
from trunkline.v1 import lm_pb2_grpc

PROG = "services.lm"


class Settings(ModelServiceSettings):
    """Settings of the language model service."""

    model_config = SettingsConfigDict(env_prefix="TRUNKLINE_LM_")

    dtype: Literal["float32", "bfloat16", "float16"] = Field("float32", description="number format of the weights")


def main() -> None:
    """Loads everything, then serves until a signal. Exit status 2 when it cannot."""
    settings = load(Settings, PROG)
    logging.basicConfig(level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    if settings.threads:
        torch.set_num_threads(settings.threads)
    try:
        template, checkpoint = _load(settings.weights, settings.dtype, settings.device)
    except WeightsError as error:
        fail(PROG, str(error))
    scheduler = Scheduler(Runner(checkpoint.model), template, checkpoint.context_length, checkpoint.end_tokens)
    engine = TorchEngine(scheduler)
    slots = Slots(settings.capacity, "language model sessions")
    servicer = VoiceLMServicer(engine, template, slots, checkpoint.revision)
    try:
        asyncio.run(_serve(servicer, settings.listen, slots))
    except OSError as error:
        fail(PROG, str(error))
    finally:
        engine.stop()


def _load(directory: Path, dtype: str, device: str) -> tuple[ChatTemplate, weights.Checkpoint]:
    if not directory.is_dir():
        raise WeightsError(f"--weights: {directory} is not a directory")
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        fail(PROG, f"--device: {device} cannot be used: {str(error).splitlines()[0]}")
    template = ChatTemplate.load(directory)
    checkpoint = weights.load(directory, dtype, device)
    highest = max(template.vocabulary.size - 1, *checkpoint.end_tokens)
    if highest >= checkpoint.model.config.vocab_size:
        raise WeightsError(
            f"{directory}: the tokenizer or eos_token_id has ids up to {highest}, "
            f"config.json's padded_vocab_size is {checkpoint.model.config.vocab_size}"
        )
    return template, checkpoint


async def _serve(servicer: VoiceLMServicer, address: str, slots: Slots) -> None:
    server = Server(
        SERVICE, lambda grpc_server: lm_pb2_grpc.add_VoiceLMServicer_to_server(servicer, grpc_server), address, slots
    )
    await serve_until_signal(server, PROG)


if __name__ == "__main__":
    main()
