"""The agent's log: as every process's (`services.common.logs`), with pipecat's own lines in it."""

import logging
from typing import Any

from loguru import logger as pipecat_logger

from services.common import logs


def set_up(level: str | int, personal_data: bool = False, log_format: logs.Format = "text") -> None:
    """Logs to stderr. Of pipecat's own lines only warnings are shown: they cannot be searched for what callers say."""
    logs.set_up(level, personal_data, log_format=log_format)
    pipecat_logger.remove()
    # Its WebRTC transport warns at each call that there is no camera.
    quieter: dict[str | None, str | int | bool] = {"": True, "pipecat.transports.smallwebrtc": "ERROR"}
    pipecat_logger.add(_pass_on, level="WARNING", filter=quieter, format="{message}")


def _pass_on(message: Any) -> None:
    record = message.record
    failure = record["exception"]
    told = logs.impersonal(record["message"])  # it may quote an exception
    exc_info = None if failure is None else (failure.type, failure.value, failure.traceback)
    logging.getLogger("pipecat").log(record["level"].no, told, exc_info=exc_info)
