import json
import logging
from datetime import datetime

import pytest
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext

from services.common.logs import FieldsFormatter, JsonFormatter, impersonal


def record(**extra: object) -> logging.LogRecord:
    return logging.getLogger("test").makeRecord(
        "test", logging.INFO, "file", 1, "call answered", (), None, extra=extra or None
    )


def raised(error: Exception, **extra: object) -> logging.LogRecord:
    told = record(**extra)
    try:
        raise error
    except Exception as caught:
        told.exc_info = (type(caught), caught, caught.__traceback__)
    return told


def test_fields_follow_the_text() -> None:
    formatter = FieldsFormatter("%(levelname)s %(message)s")
    assert formatter.format(record(call_id="abc", turn=2)) == "INFO call answered call_id=abc turn=2"
    assert formatter.format(record()) == "INFO call answered"


def test_no_value_begins_a_line_of_its_own() -> None:
    line = FieldsFormatter("%(message)s").format(record(reason="busy\n2026 ERROR services.agent: forged"))
    assert line == 'call answered reason="busy\\n2026 ERROR services.agent: forged"'


def test_marked_fields_are_shown_only_when_wanted() -> None:
    told = record(call_id="abc", pii_from='sip:"ann"@example.com')
    assert FieldsFormatter("%(message)s").format(told) == "call answered call_id=abc"
    shown = FieldsFormatter("%(message)s", personal_data=True).format(told)
    assert shown == 'call answered call_id=abc pii_from="sip:\\"ann\\"@example.com"'


def test_fields_stand_before_a_traceback() -> None:
    lines = FieldsFormatter("%(message)s", personal_data=True).format(raised(ValueError("broken"), call_id="abc"))
    assert lines.splitlines()[0] == "call answered call_id=abc"
    assert lines.splitlines()[-1] == 'ValueError pii_error="broken"'


def test_what_exceptions_say_is_personal_data() -> None:
    try:
        try:
            raise KeyError("+4930123456")
        except KeyError as cause:
            raise ExceptionGroup("of +4930123456", [ValueError("+4930123456")]) from cause
    except ExceptionGroup as error:
        group = error
    lines = FieldsFormatter("%(message)s").format(raised(group)).splitlines()
    assert "4930123456" not in [line for line in lines if "raise" not in line].__str__()
    assert [line for line in lines if line in ("KeyError", "ExceptionGroup", "ValueError")] == [
        "KeyError",
        "ExceptionGroup",
        "ValueError",
    ]


def test_asyncio_says_what_happened_and_not_to_which_object() -> None:
    told = logging.getLogger("asyncio").makeRecord(
        "asyncio", logging.ERROR, "f", 1, "Task exception\nfuture: <Task exception=ValueError('+49301234')>", (), None
    )
    assert FieldsFormatter("%(message)s").format(told) == "Task exception"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("486 Busy Here", "486 Busy Here"),
        ("the caller hung up", "the caller hung up"),
        ("cannot call 'sip:ann@example.com': no route", "cannot call …: no route"),
        ("no answer from sip:+4930123456@example.com;user=phone", "no answer from …"),
        ("moved to +49 (30) 123-456 today", "moved to … today"),
        ("call tel:110 now", "call … now"),
        ('"Ann" is away', "… is away"),
        ("no reply within 5 s, 3 of 10", "no reply within 5 s, 3 of 10"),
    ],
)
def test_texts_from_elsewhere_lose_names_and_numbers(text: str, left: str) -> None:
    assert impersonal(text) == left


def test_json_lines_have_time_level_fields_and_no_personal_data() -> None:
    line = json.loads(JsonFormatter().format(record(call_id="abc", turn=2, pii_from="sip:ann@example.com")))
    assert datetime.fromisoformat(line.pop("time")).tzinfo is not None
    assert line == {"level": "INFO", "logger": "test", "message": "call answered", "call_id": "abc", "turn": 2}
    shown = json.loads(JsonFormatter(personal_data=True).format(record(pii_from="sip:ann@example.com")))
    assert shown["pii_from"] == "sip:ann@example.com"


def test_a_json_line_stays_one_line_and_keeps_its_own_words() -> None:
    line = JsonFormatter().format(raised(ValueError("+49 170 1234567"), reason="a\nb", level="FORGED"))
    assert "\n" not in line
    told = json.loads(line)
    assert (told["reason"], told["level"]) == ("a\nb", "INFO")
    assert told["exception"].endswith("ValueError")
    assert "1234567" not in line


def test_a_json_line_names_the_span_that_it_belongs_to() -> None:
    context = SpanContext(0xABC, 0xDEF, is_remote=False)
    with trace.use_span(NonRecordingSpan(context)):
        line = json.loads(JsonFormatter().format(record()))
    assert (line["trace_id"], line["span_id"]) == (f"{0xABC:032x}", f"{0xDEF:016x}")
    assert "trace_id" not in json.loads(JsonFormatter().format(record()))
