import logging

from services.agent.logs import FieldsFormatter


def record(**extra: object) -> logging.LogRecord:
    return logging.getLogger("test").makeRecord(
        "test", logging.INFO, "file", 1, "call answered", (), None, extra=extra or None
    )


def test_fields_follow_the_text() -> None:
    formatter = FieldsFormatter("%(levelname)s %(message)s")
    assert formatter.format(record(call_id="abc", turn=2)) == "INFO call answered call_id=abc turn=2"
    assert formatter.format(record()) == "INFO call answered"


def test_fields_stand_before_a_traceback() -> None:
    try:
        raise ValueError("broken")
    except ValueError as error:
        told = record(call_id="abc")
        told.exc_info = (type(error), error, error.__traceback__)
    lines = FieldsFormatter("%(message)s").format(told).splitlines()
    assert lines[0] == "call answered call_id=abc"
    assert lines[-1] == "ValueError: broken"
