"""`python -m services.agent`: one agent process."""

import asyncio
import os

from services.agent.settings import AgentSettings
from services.common.settings import fail, load

PROG = "agent"


def main() -> None:
    """Entry point."""
    settings = load(AgentSettings, PROG)
    # Read at import: pipecat greets on stderr, and gRPC tells a second time about a port that is taken.
    os.environ.setdefault("LOGURU_AUTOINIT", "False")
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from services.agent import logs
    from services.agent.app import StartError, run

    logs.set_up(settings.log_level, settings.log_personal_data)
    try:
        failure = asyncio.run(run(settings))
    except StartError as error:
        fail(PROG, str(error))
    if failure:
        raise SystemExit(f"{PROG}: error: {failure}")


if __name__ == "__main__":
    main()
