import logging
from collections.abc import Iterator

import pytest
from loguru import logger as pipecat_logger

from services.agent import logs


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Leaves logging as it was."""
    root, ours = logging.getLogger(), logging.getLogger("services")
    before = root.level, list(root.handlers), ours.level
    yield
    root.setLevel(before[0])
    root.handlers[:] = before[1]
    ours.setLevel(before[2])
    pipecat_logger.remove()


def test_ours_are_shown_from_the_level_on_and_others_from_warning_on(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up("DEBUG")
    logging.getLogger("services.agent.call").debug("ours")
    logging.getLogger("aiortc").info("theirs")
    logging.getLogger("aiortc").warning("their warning")
    pipecat_logger.info("of pipecat")
    shown = [line.split(": ", 1)[1] for line in capsys.readouterr().err.splitlines()]
    assert shown == ["ours", "their warning"]


def test_pipecat_s_failures_come_without_what_they_quote(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up("INFO")
    try:
        raise ValueError("to sip:+4930123456@example.com")
    except ValueError as error:
        pipecat_logger.exception(f"it broke: {error}")
    told = capsys.readouterr().err
    assert "ERROR pipecat: it broke: to …" in told
    assert told.splitlines()[-1] == "ValueError"
    assert "4930123456" not in told.replace('raise ValueError("to sip:+4930123456@example.com")', "")
