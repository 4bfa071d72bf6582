"""`python -m tests.acceptance.hangups --calls 300`: phone calls hung up at random moments, and what is left of them.

One after another, by either side, while they ring or later, over two SIP workers; the models have the golden data's
random weights. Fails when a task, socket, descriptor, session or object is left, or memory grows after the first 50.
"""

import asyncio
import os
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from tests.integration import stack as stacks
from tests.integration.hangups import Sample, hang_ups, line
from tests.integration.personas import short_persona
from tests.unit.lm.checkpoint import write_checkpoint

GOLDEN = stacks.ROOT / "tests" / "golden"
REPORT = stacks.ROOT / "docs" / "benchmarks" / "hangups.md"
WARM = 50  # calls after which memory must be flat
EVERY = 10


async def measure(calls: int, seed: int, directory: Path) -> list[Sample]:
    """Makes the calls; prints as it goes."""
    weights = {name: GOLDEN / name for name in ("tokenizer", "decoder")}
    weights["lm"] = write_checkpoint(directory / "lm-weights", GOLDEN, context_length=1024)
    samples = []
    with stacks.running(directory, weights) as stack:
        async with line(stack, short_persona(directory / "personas")) as agent:
            async for sample in hang_ups(agent, calls, seed, EVERY):
                samples.append(sample)
                print(sample.calls, sample.memory_kib, sample.residue, flush=True)
    return samples


def growth_kib(samples: Sequence[Sample]) -> tuple[float, ...]:
    """Kibibytes per call after the first `WARM`, of each process: the slope of the straight line closest to them."""
    warm = [sample for sample in samples if sample.calls >= WARM]
    mean = sum(sample.calls for sample in warm) / len(warm)
    weight = sum((sample.calls - mean) ** 2 for sample in warm)
    columns = zip(*(sample.memory_kib for sample in warm), strict=True)
    return tuple(
        sum((sample.calls - mean) * value for sample, value in zip(warm, column, strict=True)) / weight
        for column in columns
    )


def report(samples: Sequence[Sample], seed: int, circumstances: str) -> str:
    """The page."""
    last = samples[-1]
    workers = len(last.memory_kib) - 1
    names = ["agent", *(f"worker {number}" for number in range(1, workers + 1))]
    rows = [sample for sample in samples if sample.calls % WARM == 0 or sample is last]
    columns = [*(f"{name}, MiB" for name in names), "tasks", "descriptors", "sockets", "threads", "to Redis"]
    lines = [
        "# Calls hung up at random moments",
        "",
        f"{last.calls} phone calls one after another (seed {seed}), each hung up within a second of its INVITE or its "
        f"answer, by the caller or by the agent. {circumstances} Before each count the agent must say that no call is "
        "left; the agent's process is also the callers'. Connections to Redis, which a pool keeps, are counted apart.",
        "",
        "How they ended: " + ", ".join(f"{how}: {times}" for how, times in sorted(last.ways.items())) + ".",
        "",
        "| calls | " + " | ".join(columns) + " |",
        "|" + "---|" * (1 + len(columns)),
    ]
    for sample in rows:
        counts = sample.residue
        cells = [f"{kib / 1024:.1f}" for kib in sample.memory_kib]
        cells += [
            " + ".join(map(str, column))
            for column in (counts.tasks, counts.descriptors, counts.sockets, counts.threads, (counts.pooled,))
        ]
        lines.append(f"| {sample.calls} | " + " | ".join(cells) + " |")
    lines += ["", f"Memory after the first {WARM} calls, by the straight line closest to it: "]
    lines[-1] += ", ".join(
        f"{name} {slope:+.2f} KiB a call" for name, slope in zip(names, growth_kib(samples), strict=True)
    )
    return "\n".join([*lines[:-1], lines[-1] + "."]) + "\n"


def main(
    calls: Annotated[int, typer.Option(min=2 * WARM, help="calls")] = 300,
    seed: Annotated[int, typer.Option(help="of the moments and the ways")] = 1,
    flat_kib: Annotated[float, typer.Option(help="growth of a process that is still flat, KiB a call")] = 8.0,
    out: Annotated[Path, typer.Option(help="the report")] = REPORT,
) -> None:
    """Makes the calls, writes the report, and fails when something is left of them."""
    began = time.time()
    with tempfile.TemporaryDirectory(prefix="trunkline-hangups-") as directory:
        samples = asyncio.run(measure(calls, seed, Path(directory)))
    circumstances = (
        f"{time.strftime('%d %B %Y', time.gmtime(began))}, {os.cpu_count()} cores ({platform.machine()}), "
        f"load {os.getloadavg()[1]:.1f} at the end, {time.time() - began:.0f} s."
    )
    out.write_text(report(samples, seed, circumstances))
    left = samples[-1].residue != samples[0].residue or bool(samples[-1].residue.objects)
    grows = max(growth_kib(samples)) > flat_kib
    print("something is left" if left else "nothing is left", "and memory grows" if grows else "and memory is flat")
    sys.exit(1 if left or grows else 0)


if __name__ == "__main__":
    typer.run(main)
