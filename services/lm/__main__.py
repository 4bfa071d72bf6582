"""`python -m services.lm --weights DIR --listen HOST:PORT` serves a language model."""

import asyncio

from services.common import logs
from services.common.errors import ServiceError, SetupError, WeightsError
from services.common.grpc_server import Server, Slots, serve_until_signal
from services.common.settings import fail, load
from services.common.telemetry import catalogue
from services.common.telemetry.metrics import gauge
from services.common.telemetry.model_service import observe
from services.common.telemetry.settings import TelemetrySettings
from services.common.telemetry.start import start
from services.lm.build import Built, Settings, build
from services.lm.prompt import ChatTemplate
from services.lm.servicer import SERVICE, VoiceLMServicer
from trunkline.v1 import lm_pb2_grpc

PROG = "services.lm"


def main() -> None:
    """Loads everything, then serves until a signal. Exit status 2 when it cannot."""
    settings = load(Settings, PROG)
    try:
        telemetry = TelemetrySettings.read()
        logs.set_up(settings.log_level, settings.log_personal_data, log_format=telemetry.log_format)
        start("lm", telemetry)
        if settings.backend == "triton":
            asyncio.run(serve_over_triton(settings))
            return
        if not settings.weights.is_dir():
            fail(PROG, f"--weights: {settings.weights} is not a directory")
        template = ChatTemplate.load(settings.weights)
        asyncio.run(serve(settings, build(settings, template), template))
    except (WeightsError, SetupError, ServiceError, OSError) as error:
        fail(PROG, str(error))


async def serve(settings: Settings, built: Built, template: ChatTemplate) -> None:
    """Serves over this process's engine until a signal. Raises OSError where the address cannot be listened on."""
    slots = _slots(settings)
    try:
        servicer = VoiceLMServicer(built.engine, template, slots, built.revision, built.kv_tokens)
        observe("lm", slots, built.pending)
        if (kv_used := built.kv_used) is not None:
            gauge(catalogue.LM_KV_USED, lambda: [(kv_used(), {})])
        await serve_until_signal(_server(servicer, settings.listen, slots), PROG, settings.drain_seconds)
    finally:
        built.engine.stop()


async def serve_over_triton(settings: Settings) -> None:
    """Serves over Triton until a signal. Raises OSError, or ServiceError where Triton does not come up."""
    # tritonclient is needed here alone
    from services.common.triton import connected, watched
    from services.lm.triton_backend import TritonEngine
    from services.lm.triton_codec import MODEL

    slots = _slots(settings)
    async with connected(settings.triton_url, MODEL, settings.wait_for_triton, settings.triton_tls) as model:
        engine = await TritonEngine.connect(model)
        servicer = VoiceLMServicer(engine, engine.template, slots, engine.revision, engine.kv_tokens, engine.check)
        server = _server(servicer, settings.listen, slots)
        observe("lm", slots)
        async with watched(server, engine.check):
            await serve_until_signal(server, PROG, settings.drain_seconds)


def _slots(settings: Settings) -> Slots:
    return Slots(settings.capacity, "language model sessions")


def _server(servicer: VoiceLMServicer, address: str, slots: Slots) -> Server:
    return Server(
        SERVICE, lambda grpc_server: lm_pb2_grpc.add_VoiceLMServicer_to_server(servicer, grpc_server), address, slots
    )


if __name__ == "__main__":
    main()
