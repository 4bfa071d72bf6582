"""Log lines: static text, then the record's own fields as `key=value`: a call's lines are found by its id."""

import logging
import sys

from loguru import logger as pipecat_logger

_KNOWN = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "color_message"}


class FieldsFormatter(logging.Formatter):
    """Appends the `extra` fields."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, or more with a traceback."""
        fields = " ".join(f"{key}={value}" for key, value in record.__dict__.items() if key not in _KNOWN)
        line = super().format(record)
        if not fields:
            return line
        first, newline, rest = line.partition("\n")
        return f"{first} {fields}{newline}{rest}"


def set_up(level: str) -> None:
    """Logs to stderr. pipecat's own lines come one level later: its INFO is our DEBUG."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(FieldsFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=level, handlers=[handler])
    logging.getLogger("aioice").setLevel(max(logging.WARNING, logging.getLogger().level))
    pipecat_logger.remove()
    # Its WebRTC transport warns at each call that there is no camera.
    quieter: dict[str | None, str | int | bool] = {"": True, "pipecat.transports.smallwebrtc": "ERROR"}
    pipecat_logger.add(sys.stderr, level="WARNING" if level == "INFO" else level, filter=quieter)
