"""What a soak says: verdict, page, record and plot."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.agent.processes import Held
from benchmarks.agent.slope import Slope, slope
from benchmarks.agent.soak import Sample, Soaked
from loadtest.calls.record import OURS

FLAT_KIB = 4.0  # a call; 2,000 calls of such growth would take 8 MiB, a thirtieth of an agent
WARM_SHARE = 0.25  # of the run, after which memory must be flat
COMMANDS = 2  # of one call that Redis may have at once: its record's and its signalling's
POOLED = 4  # descriptors and threads that a pool may have kept beyond those before the run
TEXT = """\
Short calls to one agent over SIP and WebRTC, by `loadtest`'s callers and
[scenarios/soak.yaml](../../scenarios/soak.yaml): half of them hang up, cancel or vanish at a random moment. The
agent is a real one with two SIP workers; the model services echo (`benchmarks/agent/echo_models.py`), so that a
small machine has time for thousands of calls.
Slopes are of the straight line through what is held without calls, which is looked at after every hundred of them,
from the first quarter on, with 95 % confidence (Newey and West). Own memory is what is no file's (anonymous); it is
flat when a process has less than 4 KiB a call more of it, the bound of the interval included."""


@dataclass(frozen=True)
class Growth:
    """Of one process' own memory, KiB a call."""

    process: str
    slope: Slope

    @property
    def flat(self) -> bool:
        """Less than `FLAT_KIB`, with confidence."""
        return self.slope.high < FLAT_KIB


def names(soaked: Soaked) -> list[str]:
    """Of the processes."""
    return ["agent", *(f"SIP worker {number}" for number in range(1, len(soaked.before.held)))]


def growths(soaked: Soaked) -> list[Growth]:
    """After the warm-up."""
    last = soaked.after.calls
    warm = [rest for rest in soaked.rests if rest.calls >= WARM_SHARE * last]
    calls = [sample.calls for sample in warm]
    return [
        Growth(name, slope(calls, [sample.held[number].own_kib for sample in warm]))
        for number, name in enumerate(names(soaked))
    ]


def objections(soaked: Soaked) -> list[str]:
    """What is wrong; nothing when the soak is passed."""
    found = [f"{count} calls {outcome}" for outcome, count in soaked.outcomes.items() if outcome in OURS]
    if soaked.ended_failed:
        found.append(f"the agent itself counts {soaked.ended_failed} failed calls")
    if soaked.errors:
        found.append(f"{len(soaked.errors)} errors in the agent's log")
    found += [f"{growth.process} grows" for growth in growths(soaked) if not growth.flat]
    for number, name in enumerate(names(soaked)):
        before, after = soaked.before.held[number], soaked.after.held[number]
        for what in ("descriptors", "threads", "shm"):
            were, are = getattr(before, what), getattr(after, what)
            if what == "descriptors" and not number:  # the main process has the pool
                were, are = were - soaked.before.pooled, are - soaked.after.pooled
                what += " besides those to Redis"
            if are > were + POOLED:
                found.append(f"{name} holds {are} {what}, {were} before")
    if soaked.after.pooled > soaked.before.pooled + COMMANDS * soaked.at_once:
        found.append(f"{soaked.after.pooled} connections to Redis after {soaked.at_once} calls at once")
    if soaked.after.lasting_keys > soaked.before.lasting_keys:
        found.append(f"{soaked.after.lasting_keys - soaked.before.lasting_keys} keys in Redis would stay for ever")
    if soaked.after.series > soaked.before.series * 1.2:
        found.append(f"{soaked.after.series} metric series, {soaked.before.series} before")
    return found


def write(soaked: Soaked, out: Path, circumstances: str) -> Path:
    """Writes soak.md, soak.json and soak.png; returns the page's path."""
    out.mkdir(parents=True, exist_ok=True)
    wrong = objections(soaked)
    record = {"circumstances": circumstances, "objections": wrong, **asdict(soaked)}
    record["slopes_kib_a_call"] = {growth.process: asdict(growth.slope) for growth in growths(soaked)}
    (out / "soak.json").write_text(json.dumps(record, indent=1) + "\n")
    _draw(soaked, out / "soak.png")
    page = out / "soak.md"
    page.write_text("\n".join(_page(soaked, circumstances, wrong)) + "\n")
    return page


def _page(soaked: Soaked, circumstances: str, wrong: Sequence[str]) -> list[str]:
    calls = sum(soaked.outcomes.values())
    ended = ", ".join(f"{outcome}: {count}" for outcome, count in sorted(soaked.outcomes.items()))
    lines = ["# A soak", "", circumstances, "", TEXT, "", f"**Verdict: {'; '.join(wrong) or 'passed'}.**", ""]
    lines += [f"{calls} calls in {soaked.seconds:.0f} s. How they ended: {ended}."]
    if soaked.details:
        lines += ["Why: " + ", ".join(f"{what}: {count}" for what, count in sorted(soaked.details.items())) + "."]
    lines += [
        "",
        "| process | own memory a call | 95 % | before, without calls | after, without calls |",
        "|---|---|---|---|---|",
    ]
    for number, growth in enumerate(growths(soaked)):
        before, after = (_held(sample.held[number]) for sample in (soaked.before, soaked.after))
        bounds = f"{growth.slope.low:+.2f} to {growth.slope.high:+.2f} KiB"
        lines.append(f"| {growth.process} | {growth.slope.value:+.2f} KiB | {bounds} | {before} | {after} |")
    lines += [
        "",
        f"Redis: {soaked.before.keys} keys before and {soaked.after.keys} after, of which "
        f"{soaked.before.lasting_keys} and {soaked.after.lasting_keys} have no time to live (personas); ended calls "
        f"stay for `--keep-ended-hours`. Connections to it, of the agent's descriptors: {soaked.before.pooled} before "
        f"and {soaked.after.pooled} after, for a pool keeps as many as were ever busy at once. "
        f"Metrics: {soaked.before.series} series before, {soaked.after.series} after.",
        "",
        "![Memory and descriptors against calls](soak.png)",
    ]
    return lines


def _held(held: Held) -> str:
    return f"{held.own_kib / 1024:.1f} MiB, {held.descriptors} descriptors, {held.threads} threads"


def _draw(soaked: Soaked, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 1, figsize=(7, 6), sharex=True)
    samples: Sequence[Sample] = soaked.samples
    calls = [sample.calls for sample in samples]
    for number, name in enumerate(names(soaked)):
        axes[0].plot(calls, [sample.held[number].own_kib / 1024 for sample in samples], label=name)
        axes[1].plot(calls, [sample.held[number].descriptors for sample in samples], label=f"{name}, descriptors")
    for rest in soaked.rests:
        axes[0].plot([rest.calls], [rest.held[0].own_kib / 1024], "k.")
    axes[1].plot(calls, [sample.held[0].threads for sample in samples], "--", label="agent, threads")
    for axis, label in zip(axes, ("own memory, MiB", "number"), strict=True):
        axis.set_ylabel(label)
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
        axis.legend()
    axes[1].set_xlabel("calls")
    axes[0].axvline(WARM_SHARE * calls[-1], color="grey", linestyle=":")
    figure.savefig(path, dpi=80, bbox_inches="tight")
    pyplot.close(figure)
