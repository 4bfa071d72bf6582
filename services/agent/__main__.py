"""`python -m services.agent`: one agent process."""

import asyncio
import logging
import sys

from loguru import logger as pipecat_logger

from services.agent.app import StartError, run
from services.agent.settings import AgentSettings
from services.common.settings import fail, load

PROG = "agent"


def main() -> None:
    """Entry point."""
    settings = load(AgentSettings, PROG)
    logging.basicConfig(
        level=settings.log_level, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    pipecat_logger.remove()
    pipecat_logger.add(sys.stderr, level="WARNING" if settings.log_level == "INFO" else settings.log_level)
    try:
        asyncio.run(run(settings))
    except StartError as error:
        fail(PROG, str(error))


if __name__ == "__main__":
    main()
