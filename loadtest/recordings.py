"""Which recordings the callers of `measure` and of levels speak."""

from pathlib import Path

from loadtest.scenario.questions import questions


def recordings(directory: Path) -> list[Path]:
    """The questions of a directory that have a next one.

    Raises:
        ValueError: there are none.
    """
    return [question.path for question in questions(directory) if not question.ends]
