"""`python -m services.agent`: one agent process."""

import asyncio
import os

from services.agent.settings import AgentSettings
from services.common.errors import SetupError
from services.common.settings import fail, load
from services.common.telemetry.settings import TelemetrySettings
from services.common.telemetry.start import start

PROG = "agent"


def main() -> None:
    """Entry point."""
    settings = load(AgentSettings, PROG)
    # Read at import: pipecat greets on stderr, and gRPC tells a second time about a port that is taken.
    os.environ.setdefault("LOGURU_AUTOINIT", "False")
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from services.agent import logs
    from services.agent.app import StartError, run

    try:
        telemetry = TelemetrySettings.read()
        logs.set_up(settings.log_level, settings.log_personal_data, telemetry.log_format)
        start("agent", telemetry)
        failure = asyncio.run(run(settings))
    except (SetupError, StartError) as error:
        fail(PROG, str(error))
    if failure:
        raise SystemExit(f"{PROG}: error: {failure}")


if __name__ == "__main__":
    main()
