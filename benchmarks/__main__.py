"""`python -m benchmarks` (`make bench`): ratios of the engines against the reference's schedule, from one run."""

import os
import platform
import time
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmarks.report import Section, write

PARTS = ("tokenizer", "lm", "decoder")
DOCS = Path(__file__).resolve().parent.parent / "docs" / "benchmarks"


def main(
    part: Annotated[list[str] | None, typer.Option(help=f"of {', '.join(PARTS)}; all when none is named")] = None,
    out: Annotated[Path, typer.Option(help="directory of the report: engines.md, engines.json, plots")] = DOCS,
) -> None:
    """Measures each engine with weights/nano and writes the report."""
    wanted = part or list(PARTS)
    unknown = sorted(set(wanted) - set(PARTS))
    if unknown:
        raise typer.BadParameter(f"no benchmark {unknown[0]!r}; there are {', '.join(PARTS)}")
    console = Console()
    sections: list[Section] = []
    for name in wanted:
        console.print(f"measuring the {name} ...")
        sections.append(import_module(f"benchmarks.{name}").measure())
    circumstances = (
        f"weights/nano on {os.cpu_count()} cores ({platform.machine()}), {time.strftime('%d %B %Y', time.gmtime())}. "
        "Ratios compare two ways of driving the same modules in one run; over 1 is better than the reference."
    )
    console.print(f"written: {write(out, 'engines', 'Engines', circumstances, sections)}")


if __name__ == "__main__":
    typer.run(main)
