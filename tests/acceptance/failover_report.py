"""What a failover run found, as a page with a plot."""

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from matplotlib.figure import Figure

from tests.acceptance.seams import Seam

MISSING_SHARE = (
    0.1  # of an answer's pieces: a busy machine's lost packets cost one here and there, with or without kills
)
SURPLUS_S = 0.3


@dataclass
class Turn:
    """One question and its answer.

    Attributes:
        began, asked, ended: monotonic seconds: the question's beginning and end, the answer's end.
        heard_from, heard_to: packets that the caller had heard.
        kills: services of which a replica was killed meanwhile, or within the second before.
        same_ids: an undisturbed replica gives the same answer to the same ids.
    """

    call_id: str
    question: str
    began: float = 0.0
    asked: float = 0.0
    ended: float = 0.0
    heard_from: int = 0
    heard_to: int = 0
    first_sound_s: float | None = None
    caption: str = ""
    right: bool = False
    problem: str = ""
    interrupted: bool = False
    apology: bool = False
    same_ids: bool = False
    seam: Seam | None = None
    kills: list[str] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """The answer was given to its end."""
        return not self.problem and not self.interrupted and not self.apology and self.seam is not None

    @property
    def clean(self) -> bool:
        """Nothing of it is missing or repeated in what was heard."""
        seam = self.seam
        return seam is not None and seam.missing <= MISSING_SHARE * seam.pieces and seam.surplus_s <= SURPLUS_S

    @property
    def longest_wait_s(self) -> float:
        """The longest the caller waited: for the first sound, or within the answer."""
        return max(self.first_sound_s or 0.0, self.seam.pause_s if self.seam is not None else 0.0)


def write(out: Path, turns: Sequence[Turn], kills: Sequence[str], lost_calls: int, circumstances: str) -> bool:
    """Writes the page and its plot; whether nothing was lost."""
    hit = [turn for turn in turns if turn.kills]
    normal = [turn for turn in turns if not turn.kills]
    lost = [turn for turn in turns if not turn.complete]
    counts = ", ".join(f"{count} {stage}" for stage, count in sorted(Counter(kills).items()))
    lines = [
        "# Replicas killed under live calls",
        "",
        f"`python -m tests.acceptance.failover`. {circumstances}",
        "",
        f"Killed with SIGKILL at random moments of turns: {len(kills)} replicas ({counts}), each the busiest of its "
        f"service. **Calls lost: {lost_calls}. Turns lost: {len(lost)} of {len(turns)}.**",
        "",
        "| | turns | complete | ids as undisturbed | clean seams | right | longest wait, median s | most s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, some in (("with a kill", hit), ("without", normal)):
        waits = [turn.longest_wait_s for turn in some if turn.complete] or [0.0]
        lines.append(
            f"| {name} | {len(some)} | {sum(turn.complete for turn in some)} | {sum(turn.same_ids for turn in some)} "
            f"| {sum(turn.clean for turn in some)} | {sum(turn.right for turn in some)} "
            f"| {statistics.median(waits):.2f} | {max(waits):.2f} |"
        )
    lines += [
        "",
        "The longest wait of a turn is that for its first sound after the question, or the longest silence within the "
        "answer that its rendering does not have. Right is judged by the caption. A seam is clean when at most a tenth "
        f"of the answer's pieces of 0.4 s is not found where it belongs, and at most {SURPLUS_S} s of sound is heard "
        "beyond the rendering's.",
        "",
        f"![waits]({out.stem}.png)",
    ]
    odd = [turn for turn in turns if not (turn.complete and turn.same_ids and turn.clean)]
    if odd:
        lines += ["", "## Turns that are not as they should be", "", "| kills | what | seam |", "|---|---|---|"]
    for turn in odd:
        what = turn.problem or ("interrupted" if turn.interrupted else "apology" if turn.apology else "")
        what = what or ("other ids" if not turn.same_ids else "seam")
        seam = turn.seam
        told = f"{seam.missing} of {seam.pieces} missing, {seam.surplus_s:.2f} s more" if seam is not None else ""
        lines.append(f"| {', '.join(turn.kills)} | {what} | {told} |")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text("\n".join(lines) + "\n")
    _plot(out.with_suffix(".png"), hit, normal)
    print("\n".join(lines), flush=True)
    return not lost_calls and not lost


def _plot(path: Path, hit: Sequence[Turn], normal: Sequence[Turn]) -> None:
    figure = Figure(figsize=(7, 3), layout="constrained")
    axes = figure.add_subplot()
    for name, some in (("without a kill", normal), ("with a kill", hit)):
        waits = sorted(turn.longest_wait_s for turn in some if turn.complete)
        if waits:
            axes.step(waits, [(place + 1) / len(waits) for place in range(len(waits))], where="post", label=name)
    axes.set_xlabel("longest wait of a turn, seconds")
    axes.set_ylabel("share of turns")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=110)
