"""Plots of a run, as SVG to be put into a page."""

import io
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from loadtest.results.record import Run
from loadtest.results.summary import costs

SIZE = (7.6, 2.9)
COLOURS = {"sip": "#1f6feb", "webrtc": "#d9730d"}


def plots(run: Run) -> dict[str, str]:
    """By name: SVG elements; those for which nothing was measured are left out."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    drawn = {}
    style: dict[Any, Any] = {
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "svg.fonttype": "none",
    }
    with matplotlib.rc_context(style):
        for name, draw in (
            ("over_time", _over_time),
            ("spread", _spread),
            ("stages", _stages),
            ("memory", _memory),
        ):
            figure, axes = pyplot.subplots(figsize=SIZE)
            if draw(run, axes):
                buffer = io.StringIO()
                figure.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None}, transparent=True)
                drawn[name] = buffer.getvalue()[buffer.getvalue().index("<svg") :]
            pyplot.close(figure)
    return drawn


def _over_time(run: Run, axes: Any) -> bool:
    """Calls at once, first audio of each answer, faults."""
    if not run.live:
        return False
    axes.step(
        [at for at, _ in run.live], [calls for _, calls in run.live], where="post", color="#999999", linewidth=1.2
    )
    axes.set(xlabel="seconds of the run", ylabel="calls at once")
    axes.set_ylim(bottom=0)
    seconds = axes.twinx()
    for leg, colour in COLOURS.items():
        answers = [answer for call in run.calls if call.leg == leg for answer in call.answers if answer.counts]
        if answers:
            times = [answer.asked_s for answer in answers]
            first = [answer.first_audio_s for answer in answers]
            seconds.plot(times, first, ".", color=colour, markersize=5, alpha=0.7, label=f"first audio, {leg}")
    seconds.set_ylabel("first audio, s")
    seconds.set_ylim(bottom=0)
    seconds.spines["right"].set_visible(True)
    for at, what in run.faults:
        seconds.axvline(at, color="#cf222e", linewidth=0.8, linestyle=":")
        seconds.annotate(what, (at, 1.0), xycoords=("data", "axes fraction"), fontsize=6, rotation=90, va="top")
    if seconds.get_legend_handles_labels()[0]:
        seconds.legend(loc="upper right", frameon=False, fontsize=8)
    return True


def _spread(run: Run, axes: Any) -> bool:
    """Share of answers that began within a time."""
    target = run.scenario.targets.first_audio_p95_s
    found = False
    for leg, colour in COLOURS.items():
        first = sorted(
            answer.first_audio_s
            for call in run.calls
            if call.leg == leg
            for answer in call.answers
            if answer.counts and answer.first_audio_s is not None
        )
        if first:
            shares = [(number + 1) / len(first) for number in range(len(first))]
            axes.step(first, shares, where="post", color=colour, label=f"{leg}, {len(first)} answers")
            found = True
    axes.axhline(0.95, color="#999999", linewidth=0.8, linestyle=":")
    if target is not None:
        axes.axvline(target, color="#cf222e", linewidth=0.8, linestyle="--", label=f"target {target:g} s for 95 %")
    axes.set(xlabel="first audio after the caller's last sound, s", ylabel="share of answers")
    axes.set_xlim(left=0)
    axes.set_ylim(0, 1.02)
    axes.legend(loc="lower right", frameon=False, fontsize=8)
    return found


def _stages(run: Run, axes: Any) -> bool:
    """Cores busy by stage, over time."""
    if len(run.points) < 3:
        return False
    names = [cost.stage for cost in costs(run)]
    step = max(1, len(run.points) // 150)
    points = run.points[::step]
    times = [(before.at_s + after.at_s) / 2 for before, after in pairwise(points)]
    busy = [
        [
            max(0.0, after.cpu_s.get(name, 0.0) - before.cpu_s.get(name, 0.0)) / (after.at_s - before.at_s)
            for before, after in pairwise(points)
        ]
        for name in names
    ]
    axes.stackplot(times, busy, labels=names, alpha=0.85)
    axes.set(xlabel="seconds of the run", ylabel="cores busy")
    axes.set_ylim(bottom=0)
    _legend_beside(axes)
    return True


def _memory(run: Run, axes: Any) -> bool:
    """Memory by stage, over time."""
    if len(run.points) < 3:
        return False
    times: Sequence[float] = [point.at_s for point in run.points]
    for name in run.points[-1].rss_mib:
        axes.plot(times, [point.rss_mib.get(name, 0.0) for point in run.points], label=name, linewidth=1.2)
    axes.set(xlabel="seconds of the run", ylabel="resident memory, MiB")
    axes.set_ylim(bottom=0)
    _legend_beside(axes)
    return True


def _legend_beside(axes: Any) -> None:
    handles, names = axes.get_legend_handles_labels()
    axes.legend(handles[::-1], names[::-1], loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False, fontsize=8)
