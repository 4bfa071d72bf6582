"""What the processes of a system use, sampled while calls go on: processor time, memory, descriptors."""

import asyncio
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from loadtest.measure.usage import children

TICK_S = 1 / os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
EVERY_S = 1.0

Pids = Callable[[], Mapping[str, Sequence[int]]]


@dataclass(frozen=True)
class Sample:
    """One look.

    Attributes:
        at_s: of the run.
        cpu_s: by stage, since the first look; of processes that have ended meanwhile, too.
        rss_mib, descriptors: by stage, of the processes that are there.
    """

    at_s: float
    cpu_s: dict[str, float]
    rss_mib: dict[str, float]
    descriptors: dict[str, int]


def stages(pids: Mapping[str, int]) -> dict[str, list[int]]:
    """Processes by stage, as they are now: the agent's SIP workers apart from it, and the callers' own."""
    found = {name: [pid] for name, pid in pids.items()}
    if workers := [child for pid in found.get("agent", []) for child in children(pid)]:
        found["SIP workers"] = workers
    return {**found, "callers": [os.getpid()]}


@dataclass
class Sampler:
    """Looks once a second.

    Args:
        pids: by stage, at any time.
    """

    pids: Pids
    samples: list[Sample] = field(default_factory=list)
    _used: dict[tuple[str, int], float] = field(default_factory=dict)
    _first: dict[tuple[str, int], float] = field(default_factory=dict)

    async def run(self, began: float) -> None:
        """Until it is cancelled.

        Args:
            began: of the run, monotonic seconds.
        """
        while True:
            self.look(time.monotonic() - began)
            await asyncio.sleep(EVERY_S)

    def look(self, at_s: float) -> None:
        """One more."""
        rss: dict[str, float] = {}
        descriptors: dict[str, int] = {}
        for stage, pids in self.pids().items():
            rss[stage], descriptors[stage] = 0.0, 0
            for pid in pids:
                used = _cpu_s(pid)
                if used is None:
                    continue
                known = (stage, pid)
                # whoever starts while calls go on has used all of its time for them
                self._first.setdefault(known, 0.0 if self.samples else used)
                self._used[known] = used
                rss[stage] += _rss_mib(pid)
                descriptors[stage] += _descriptors(pid)
        cpu: dict[str, float] = {}
        for known, used in self._used.items():
            cpu[known[0]] = cpu.get(known[0], 0.0) + used - self._first[known]
        self.samples.append(Sample(at_s, cpu, rss, descriptors))


def _cpu_s(pid: int) -> float | None:
    """User and system time of all threads, ended ones too; None when the process is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) * TICK_S


def _rss_mib(pid: int) -> float:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE / 2**20
    except OSError:
        return 0.0


def _descriptors(pid: int) -> int:
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return 0
