"""How a command ends that cannot do what it is asked."""

from typing import NoReturn

import typer


def fail(message: object) -> NoReturn:
    """Ends with status 2 and one line."""
    typer.echo(f"loadtest: error: {message}", err=True)
    raise typer.Exit(2)
