"""What every training shares: a time budget that survives interruption, the losses' history and their plot."""

import contextlib
import json
import math
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch


def _cpu_seconds() -> float:
    """Of this process, per torch thread: a machine that is busy with other things takes nothing from a training."""
    return time.process_time() / torch.get_num_threads()


class Budget:
    """A training's clock: seconds of training done in all runs together, against a limit.

    Args:
        done: seconds done by earlier runs.
        clock: seconds; by default of computing.
    """

    def __init__(self, minutes: float, done: float = 0.0, clock: Callable[[], float] = _cpu_seconds) -> None:
        self.limit = minutes * 60.0
        self._before = done
        self._clock = clock
        self._started = clock()

    @property
    def done(self) -> float:
        return self._before + self._clock() - self._started

    @property
    def fraction(self) -> float:
        return min(1.0, self.done / self.limit)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """What is done within (an evaluation, say) does not count."""
        before = self._clock()
        yield
        self._started += self._clock() - before


def cosine(fraction: float, step: int, warm_up: int, floor: float = 0.04) -> float:
    """Learning-rate factor: linear over the first steps, then half a cosine over the budget."""
    return min(1.0, (step + 1) / warm_up) * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * fraction)))


class History:
    """Averages of losses over stretches of steps, kept as JSON and drawn as PNG."""

    def __init__(self, title: str, rows: list[dict[str, float]] | None = None) -> None:
        self.title = title
        self.rows = rows or []
        self._open: dict[str, list[float]] = defaultdict(list)

    def add(self, **values: float) -> None:
        for name, value in values.items():
            self._open[name].append(value)

    def close_row(self, minute: float, step: int) -> dict[str, float]:
        row = {"minute": round(minute, 2), "step": float(step)}
        row |= {name: sum(values) / len(values) for name, values in self._open.items() if values}
        self._open.clear()
        self.rows.append(row)
        return row

    def save(self, folder: Path, name: str) -> None:
        """`<name>.json` and `<name>.png` in `folder`."""
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot

        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.json").write_text(json.dumps(self.rows))
        figure, axes = pyplot.subplots(figsize=(7, 4))
        for loss in sorted({key for row in self.rows for key in row} - {"minute", "step"}):
            points = [(row["minute"], row[loss]) for row in self.rows if loss in row]
            axes.plot(*zip(*points, strict=True), label=loss)
        axes.set(title=self.title, xlabel="minutes of training", ylabel="loss", yscale="log")
        axes.grid(alpha=0.3)
        if self.rows:
            axes.legend()
        figure.savefig(folder / f"{name}.png", dpi=80, bbox_inches="tight")
        pyplot.close(figure)


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Writes beside and renames, so that a checkpoint is whole or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".part")
    torch.save(state, temporary)
    os.replace(temporary, path)
