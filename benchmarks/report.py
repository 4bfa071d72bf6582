"""What a benchmark found: figures with what they stand beside, plots, and the page that shows both."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Figure:
    """One measured value, and the same by the reference's schedule where there is one, from the same run.

    Attributes:
        ratio: `reference / value` where less is better, `value / reference` where more is; none without a reference.
        note: what the reference is, or what else to know.
    """

    what: str
    value: float
    unit: str
    reference: float | None = None
    less_is_better: bool = True
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """How many times better than the reference; none without one."""
        if not self.reference or not self.value:
            return None
        return self.reference / self.value if self.less_is_better else self.value / self.reference


@dataclass(frozen=True)
class Curve:
    """A line of a plot."""

    name: str
    x: Sequence[float]
    y: Sequence[float]


@dataclass(frozen=True)
class Plot:
    """A plot of the report; `name` is its file's name without ending."""

    name: str
    title: str
    x_label: str
    y_label: str
    curves: Sequence[Curve]


@dataclass(frozen=True)
class Section:
    """What one part's benchmark found."""

    title: str
    text: str
    figures: Sequence[Figure]
    plots: Sequence[Plot] = field(default_factory=tuple)


def write(folder: Path, name: str, title: str, circumstances: str, sections: Sequence[Section]) -> Path:
    """Writes `name.md`, `name.json` and a PNG for each plot into `folder`; returns the page's path."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [f"# {title}", "", circumstances]
    for section in sections:
        lines += ["", f"## {section.title}", "", section.text, ""]
        lines += ["| what | value | reference | ratio | note |", "|---|---|---|---|---|"]
        lines += [_row(figure) for figure in section.figures]
        for plot in section.plots:
            _draw(plot, folder / f"{plot.name}.png")
            lines += ["", f"![{plot.title}]({plot.name}.png)"]
    record = {"circumstances": circumstances, "sections": [asdict(section) for section in sections]}
    (folder / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")
    page = folder / f"{name}.md"
    page.write_text("\n".join(lines) + "\n")
    return page


def _row(figure: Figure) -> str:
    reference = "" if figure.reference is None else f"{figure.reference:.4g} {figure.unit}"
    ratio = "" if figure.ratio is None else f"{figure.ratio:.2f}"
    return f"| {figure.what} | {figure.value:.4g} {figure.unit} | {reference} | {ratio} | {figure.note} |"


def _draw(plot: Plot, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4))
    for curve in plot.curves:
        axes.plot(curve.x, curve.y, marker="o", label=curve.name)
    axes.set(title=plot.title, xlabel=plot.x_label, ylabel=plot.y_label)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=80, bbox_inches="tight")
    pyplot.close(figure)
