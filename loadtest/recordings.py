"""Which recordings callers speak."""

from pathlib import Path

ENDING = ("goodbye", "speak-to-a-person")  # whoever says these has no next question


def recordings(directory: Path) -> list[Path]:
    """The questions of a directory.

    Raises:
        ValueError: there are none.
    """
    found = [path for path in sorted(directory.glob("*.wav")) if path.stem not in ENDING]
    if not found:
        raise ValueError(f"{directory} holds no recorded questions (*.wav)")
    return found
