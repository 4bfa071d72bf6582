"""One way for every secret setting: `NAME` holds it, from the environment best, or `NAME_FILE` a file with it."""

from pathlib import Path

from pydantic import SecretStr


class SecretError(ValueError):
    """A secret cannot be had; the message names its setting, and does not show it."""


def read_secret(value: SecretStr | str, file: Path | str | None, what: str) -> str:
    """A secret from its setting, or from the file that holds it, without white space around it; empty for none.

    Args:
        what: names it in errors, such as `TRUNKLINE_AGENT_TURN_SECRET` or `trunk 'home': password`.

    Raises:
        SecretError: both are given, or the file cannot be read or is empty.
    """
    given = value.get_secret_value() if isinstance(value, SecretStr) else value
    if not file:
        return given
    if given:
        raise SecretError(f"{what}: give it or a file, not both")
    try:
        read = Path(file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise SecretError(f"{what} in {file} cannot be read: {reason}") from None
    if not read:
        raise SecretError(f"{what}: {file} is empty")
    return read
