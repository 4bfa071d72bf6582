"""Log lines: static text, then the record's own fields as `key=value`: a call's lines are found by its id.

Personal data (numbers, addresses, what is said, prompts) stands in fields whose names begin with `pii_`, and nowhere
else. These fields are left out unless the operator asks for them. What other people's code logs cannot be marked, so of
it only warnings are shown; and an exception's message may quote anything, so it counts as personal data too.
"""

import json
import logging
import re
import sys
import traceback
from types import TracebackType

PERSONAL = "pii_"
OURS = "services"  # the root of our own loggers

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
        if record.name == "asyncio":  # from the second line on its messages are of objects, exceptions among them
            record = logging.makeLogRecord(
                {**record.__dict__, "msg": record.getMessage().split("\n", 1)[0], "args": ()}
            )
        fields = " ".join(
            f"{key}={_shown(key, value)}"
            for key, value in record.__dict__.items()
            if key not in _KNOWN and (self.personal_data or not key.startswith(PERSONAL))
        )
        line = super().format(record)
        if not fields:
            return line
        first, newline, rest = line.partition("\n")
        return f"{first} {fields}{newline}{rest}"

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


def _shown(key: str, value: object) -> str:
    """A marked value in quotes, so that its end is known; no value breaks the line."""
    text = str(value)
    return _quoted(value) if key.startswith(PERSONAL) or not text.isprintable() else text


def _quoted(value: object) -> str:
    return json.dumps(str(value), ensure_ascii=False)


def impersonal(text: str) -> str:
    """A text of other origin, such as a far end's reason, without what may name or number anyone in it."""
    return _TELLING.sub("…", text)


def set_up(level: str | int, personal_data: bool = False, prefix: str = "%(asctime)s ") -> None:
    """Logs to stderr: our own lines from `level` on, other people's from WARNING on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(FieldsFormatter(f"{prefix}%(levelname)s %(name)s: %(message)s", personal_data))
    ours = logging.getLogger(OURS)
    ours.setLevel(level)
    logging.basicConfig(level=max(logging.WARNING, ours.level), handlers=[handler], force=True)


def shown() -> tuple[int, bool]:
    """What `set_up` was told: the level, and whether personal data is shown. For processes that this one starts."""
    formatters = (handler.formatter for handler in logging.getLogger().handlers)
    personal = any(isinstance(formatter, FieldsFormatter) and formatter.personal_data for formatter in formatters)
    return logging.getLogger(OURS).getEffectiveLevel(), personal
