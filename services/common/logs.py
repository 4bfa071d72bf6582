"""Log lines: static text, then the record's own fields as `key=value`: a call's lines are found by its id. Or as JSON.

Personal data (numbers, addresses, what is said, prompts) stands in fields whose names begin with `pii_`, and nowhere
else. These fields are left out unless the operator asks for them. What other people's code logs cannot be marked, so of
it only warnings are shown; and an exception's message may quote anything, so it counts as personal data too.
"""

import json
import logging
import re
import sys
import traceback
from datetime import UTC, datetime
from types import TracebackType
from typing import Literal

from opentelemetry import trace

PERSONAL = "pii_"
OURS = "services"  # the root of our own loggers

Format = Literal["text", "json"]

_KNOWN = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "color_message"}

# addresses, quotations, and numbers of five digits and more however they are grouped
_TELLING = re.compile(r"""'[^']*'|"[^"]*"|\S*@\S*|\b(?:sips?|tel):\S+|\+?\d(?:[ ().-]{0,2}\d){4,}""")

_ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


class FieldsFormatter(logging.Formatter):
    """Appends the `extra` fields.

    Args:
        personal_data: shows fields whose names begin with `pii_`, and the messages of exceptions.
    """

    def __init__(self, fmt: str, personal_data: bool = False) -> None:
        super().__init__(fmt)
        self.personal_data = personal_data

    def format(self, record: logging.LogRecord) -> str:
        """One line, or more with a traceback."""
        fields = " ".join(f"{key}={_shown(key, value)}" for key, value in self.fields(record).items())
        line = super().format(_tellable(record))
        if not fields:
            return line
        first, newline, rest = line.partition("\n")
        return f"{first} {fields}{newline}{rest}"

    def fields(self, record: logging.LogRecord) -> dict[str, object]:
        """The record's own fields that may be shown."""
        return {
            key: value
            for key, value in record.__dict__.items()
            if key not in _KNOWN and (self.personal_data or not key.startswith(PERSONAL))
        }

    def formatException(self, ei: _ExcInfo) -> str:  # noqa: N802 - the name is logging's
        """The stack and the kinds of the exceptions; their messages are marked."""
        return "\n".join(self._told(ei[1], set())) if ei[1] is not None else ""

    def _told(self, error: BaseException, seen: set[int]) -> list[str]:
        seen.add(id(error))
        before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        lines = []
        if before is not None and id(before) not in seen:
            lines += [*self._told(before, seen), "then:"]
        lines.append("Traceback (most recent call last):")
        lines += "".join(traceback.format_tb(error.__traceback__)).splitlines()
        lines.append(type(error).__name__ + (f" {PERSONAL}error={_quoted(error)}" if self.personal_data else ""))
        if isinstance(error, BaseExceptionGroup):
            for part in error.exceptions:
                lines += self._told(part, seen)
        return lines


class JsonFormatter(FieldsFormatter):
    """One JSON object a line: time, level, logger, message, the fields, and of whose trace it is, if it is of one."""

    def __init__(self, personal_data: bool = False) -> None:
        super().__init__("%(message)s", personal_data)

    def format(self, record: logging.LogRecord) -> str:
        """One line, whatever is in it."""
        record = _tellable(record)
        told: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        span = trace.get_current_span().get_span_context()
        if span.is_valid:
            told |= {"trace_id": trace.format_trace_id(span.trace_id), "span_id": trace.format_span_id(span.span_id)}
        if record.exc_info:
            told["exception"] = self.formatException(record.exc_info)
        return json.dumps({**self.fields(record), **told}, ensure_ascii=False, default=str)


def _tellable(record: logging.LogRecord) -> logging.LogRecord:
    if record.name != "asyncio":
        return record
    # from the second line on its messages are of objects, exceptions among them
    return logging.makeLogRecord({**record.__dict__, "msg": record.getMessage().split("\n", 1)[0], "args": ()})


def _shown(key: str, value: object) -> str:
    """A marked value in quotes, so that its end is known; no value breaks the line."""
    text = str(value)
    return _quoted(value) if key.startswith(PERSONAL) or not text.isprintable() else text


def _quoted(value: object) -> str:
    return json.dumps(str(value), ensure_ascii=False)


def impersonal(text: str) -> str:
    """A text of other origin, such as a far end's reason, without what may name or number anyone in it."""
    return _TELLING.sub("…", text)


def set_up(
    level: str | int, personal_data: bool = False, prefix: str = "%(asctime)s ", log_format: Format = "text"
) -> None:
    """Logs to stderr: our own lines from `level` on, other people's from WARNING on.

    Args:
        prefix: of text lines.
    """
    handler = logging.StreamHandler(sys.stderr)
    text = FieldsFormatter(f"{prefix}%(levelname)s %(name)s: %(message)s", personal_data)
    handler.setFormatter(JsonFormatter(personal_data) if log_format == "json" else text)
    ours = logging.getLogger(OURS)
    ours.setLevel(level)
    logging.basicConfig(level=max(logging.WARNING, ours.level), handlers=[handler], force=True)


def shown() -> tuple[int, bool, Format]:
    """What `set_up` was told: the level, whether personal data is shown, the format. For processes that this starts."""
    formatters = [handler.formatter for handler in logging.getLogger().handlers]
    personal = any(isinstance(formatter, FieldsFormatter) and formatter.personal_data for formatter in formatters)
    as_json = any(isinstance(formatter, JsonFormatter) for formatter in formatters)
    return logging.getLogger(OURS).getEffectiveLevel(), personal, "json" if as_json else "text"
