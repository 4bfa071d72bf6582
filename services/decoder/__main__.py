"""`python -m services.decoder --weights DIR --listen 127.0.0.1:50053`."""

import asyncio

from services.common import logs
from services.common.errors import ServiceError, SetupError, WeightsError
from services.common.grpc_server import serve_until_signal
from services.common.settings import fail, load
from services.common.telemetry.model_service import observe
from services.common.telemetry.settings import TelemetrySettings
from services.common.telemetry.start import start
from services.decoder.build import Settings, build
from services.decoder.engine import DecoderEngine
from services.decoder.servicer import make_server

PROG = "services.decoder"


async def serve(settings: Settings, engine: DecoderEngine) -> None:
    """Serves over this process's engine until a signal. Raises OSError where the address cannot be listened on."""
    try:
        await engine.warm_up()
        server = make_server(engine, settings.listen, settings.capacity)
        observe("decoder", server.slots, lambda: engine.pending_blocks)
        await serve_until_signal(server, PROG, settings.drain_seconds)
    finally:
        engine.close()


async def serve_over_triton(settings: Settings) -> None:
    """Serves over Triton until a signal. Raises OSError, or ServiceError where Triton does not come up."""
    # tritonclient is needed here alone
    from services.common.triton import connected, watched
    from services.decoder.triton_backend import MODEL, TritonDecoderBackend

    async with connected(settings.triton_url, MODEL, settings.wait_for_triton, settings.triton_tls) as model:
        backend = await TritonDecoderBackend.connect(model)
        server = make_server(backend, settings.listen, settings.capacity, backend.check)
        observe("decoder", server.slots)
        async with watched(server, backend.check):
            await serve_until_signal(server, PROG, settings.drain_seconds)


def main() -> None:
    """Exits with status 2 and one line on stderr where settings, weights, device, Triton or port are not usable."""
    settings = load(Settings, PROG)
    try:
        telemetry = TelemetrySettings.read()
        logs.set_up(settings.log_level, settings.log_personal_data, log_format=telemetry.log_format)
        start("decoder", telemetry)
        if settings.backend == "triton":
            asyncio.run(serve_over_triton(settings))
        else:
            asyncio.run(serve(settings, build(settings)))
    except (WeightsError, SetupError, ServiceError, OSError) as error:
        fail(PROG, str(error))


if __name__ == "__main__":
    main()
