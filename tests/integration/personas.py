"""Personas for tests."""

from pathlib import Path

SHORT = """\
name: default
prompt: Be brief.
greeting: Hello.
temperature: 0
max_new_tokens: {tokens}
"""


def short_persona(directory: Path, max_new_tokens: int = 60) -> Path:
    """A personas directory for random weights, which never stop by themselves: answers of a few seconds."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "default.yaml").write_text(SHORT.format(tokens=max_new_tokens))
    return directory
