"""The agent's log: as every process's (`services.common.logs`), with pipecat's own lines in it."""

import logging
import sys

from loguru import logger as pipecat_logger

from services.common import logs


def set_up(level: str | int, personal_data: bool = False) -> None:
    """Logs to stderr. Of pipecat's own lines only warnings are shown: they cannot be searched for what callers say."""
    logs.set_up(level, personal_data)
    pipecat_logger.remove()
    # Its WebRTC transport warns at each call that there is no camera.
    quieter: dict[str | None, str | int | bool] = {"": True, "pipecat.transports.smallwebrtc": "ERROR"}
    pipecat_logger.add(
        sys.stderr,
        level="ERROR" if level in ("ERROR", logging.ERROR) else "WARNING",
        filter=quieter,
        backtrace=False,
        diagnose=False,  # it would print the values of variables
    )
