"""The report that `make bench` writes, and the command that writes it."""

import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
import typer
from typer.testing import CliRunner

from benchmarks import __main__ as command
from benchmarks.report import Curve, Figure, Plot, Section, write

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.mark.parametrize(
    ("figure", "ratio"),
    [
        (Figure("latency", 20.0, "ms", 50.0), 2.5),
        (Figure("tokens a second", 60.0, "/s", 20.0, less_is_better=False), 3.0),
        (Figure("slower than the reference", 80.0, "ms", 40.0), 0.5),
        (Figure("alone", 20.0, "ms"), None),
        (Figure("nothing to divide by", 0.0, "ms", 50.0), None),
        (Figure("nothing to divide", 20.0, "ms", 0.0, less_is_better=False), None),
    ],
)
def test_a_ratio_over_one_is_better_than_the_reference(figure: Figure, ratio: float | None) -> None:
    assert figure.ratio == ratio


def section() -> Section:
    figures = [
        Figure("after the turn", 12.3456, "ms", 61.728, note="whole turn at its end"),
        Figure("tokens equal", 1.0, ""),
    ]
    curves = [Curve("streamed", (1, 2, 4), (10.0, 11.0, 10.5)), Curve("reference", (1, 2, 4), (10.0, 20.0, 40.0))]
    return Section("Tokenizer", "What was compared.", figures, [Plot("turns", "After the turn", "s", "ms", curves)])


def test_the_page_holds_tables_and_plots(tmp_path: Path) -> None:
    folder = tmp_path / "docs" / "benchmarks"
    page = write(folder, "engines", "Engines", "On two cores.", [section(), Section("Other", "No plots.", [])])
    assert page == folder / "engines.md"
    assert page.read_text().splitlines() == [
        "# Engines",
        "",
        "On two cores.",
        "",
        "## Tokenizer",
        "",
        "What was compared.",
        "",
        "| what | value | reference | ratio | note |",
        "|---|---|---|---|---|",
        "| after the turn | 12.35 ms | 61.73 ms | 5.00 | whole turn at its end |",
        "| tokens equal | 1  |  |  |  |",
        "",
        "![After the turn](turns.png)",
        "",
        "## Other",
        "",
        "No plots.",
        "",
        "| what | value | reference | ratio | note |",
        "|---|---|---|---|---|",
    ]
    assert (folder / "turns.png").read_bytes().startswith(PNG)
    assert sorted(path.name for path in folder.iterdir()) == ["engines.json", "engines.md", "turns.png"]


def test_the_record_holds_every_value(tmp_path: Path) -> None:
    write(tmp_path, "engines", "Engines", "On two cores.", [section()])
    record = json.loads((tmp_path / "engines.json").read_text())
    assert record["circumstances"] == "On two cores."
    (kept,) = record["sections"]
    assert kept["title"] == "Tokenizer"
    assert kept["figures"][0]["value"] == 12.3456
    assert kept["figures"][0]["reference"] == 61.728
    assert kept["figures"][1]["reference"] is None
    assert kept["plots"][0]["curves"][1] == {"name": "reference", "x": [1, 2, 4], "y": [10.0, 20.0, 40.0]}


def test_a_second_run_replaces_the_first(tmp_path: Path) -> None:
    write(tmp_path, "engines", "Engines", "First.", [section(), section()])
    page = write(tmp_path, "engines", "Engines", "Second.", [section()])
    assert page.read_text().count("## Tokenizer") == 1
    assert "First." not in page.read_text()


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> typer.Typer:
    """The command, with parts that measure nothing."""
    for name in command.PARTS:
        part = ModuleType(f"benchmarks.{name}")
        found = Section(f"Part {name}", "", [Figure(name, 1.0, "ms", 2.0)])
        part.measure = lambda found=found: found  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, part.__name__, part)
    app = typer.Typer()
    app.command()(command.main)
    return app


def test_the_command_measures_the_parts_that_are_named(app: typer.Typer, tmp_path: Path) -> None:
    out = str(tmp_path / "report")
    result = CliRunner().invoke(app, ["--part", "decoder", "--part", "tokenizer", "--out", out])
    assert result.exit_code == 0, result.output
    assert "measuring the decoder ..." in result.output
    titles = [line for line in (tmp_path / "report" / "engines.md").read_text().splitlines() if line.startswith("## ")]
    assert titles == ["## Part decoder", "## Part tokenizer"]


def test_the_command_measures_everything_when_nothing_is_named(app: typer.Typer, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    record = json.loads((tmp_path / "engines.json").read_text())
    assert [kept["title"] for kept in record["sections"]] == [f"Part {name}" for name in command.PARTS]
    assert "weights/nano on" in record["circumstances"]


def test_an_unknown_part_is_refused_before_anything_is_measured(app: typer.Typer, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["--part", "tokenizer", "--part", "vocoder", "--out", str(tmp_path / "report")])
    assert result.exit_code == 2
    assert "no benchmark 'vocoder'; there are" in " ".join(result.output.replace("│", " ").split())
    assert "measuring" not in result.output
    assert not (tmp_path / "report").exists()
