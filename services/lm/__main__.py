"""`python -m services.lm --weights DIR --listen HOST:PORT` serves a language model."""

import asyncio
import logging
from typing import Literal

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from services.common.errors import WeightsError
from services.common.grpc_server import Server, Slots, serve_until_signal
from services.common.settings import ModelServiceSettings, fail, load
from services.lm.prompt import ChatTemplate
from services.lm.servicer import SERVICE, VoiceLMServicer
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
    if not settings.weights.is_dir():
        fail(PROG, f"--weights: {settings.weights} is not a directory")
    try:
        template = ChatTemplate.load(settings.weights)
        # torch takes seconds to import: what is wrong with the settings or the small files is told before.
        from services.lm.torch_engine.build import build

        engine, revision = build(settings.weights, template, settings.dtype, settings.device, settings.threads)
    except WeightsError as error:
        fail(PROG, str(error))
    except ValueError as error:
        fail(PROG, f"--device: {error}")
    slots = Slots(settings.capacity, "language model sessions")
    servicer = VoiceLMServicer(engine, template, slots, revision)
    try:
        asyncio.run(_serve(servicer, settings.listen, slots))
    except OSError as error:
        fail(PROG, str(error))
    finally:
        engine.stop()


async def _serve(servicer: VoiceLMServicer, address: str, slots: Slots) -> None:
    server = Server(
        SERVICE, lambda grpc_server: lm_pb2_grpc.add_VoiceLMServicer_to_server(servicer, grpc_server), address, slots
    )
    await serve_until_signal(server, PROG)


if __name__ == "__main__":
    main()
