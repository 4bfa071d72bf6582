"""Processor time of processes by thread, from /proc, in nanoseconds of the kernel's own account."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Usage:
    """Seconds by thread id; the process's own id is its first thread's."""

    pid: int
    threads: dict[int, float]

    @property
    def total_s(self) -> float:
        """Of all threads."""
        return sum(self.threads.values())

    def since(self, before: "Usage") -> "Usage":
        """What was used since."""
        return Usage(self.pid, {tid: used - before.threads.get(tid, 0.0) for tid, used in self.threads.items()})

    @property
    def loop_s(self) -> float:
        """Of the first thread, which runs the event loop."""
        return self.threads.get(self.pid, 0.0)

    @property
    def engine_s(self) -> float:
        """Of the thread that computes: the busiest one beside the first, which is the event loop's."""
        return max((used for tid, used in self.threads.items() if tid != self.pid), default=0.0)


def usage(pid: int) -> Usage:
    """What a process has used so far; nothing when it is gone."""
    threads = {}
    for thread in _entries(Path(f"/proc/{pid}/task")):
        try:
            threads[int(thread.name)] = int((thread / "schedstat").read_text().split()[0]) / 1e9
        except (OSError, IndexError):
            continue  # it ended in this moment
    return Usage(pid, threads)


def children(pid: int) -> list[int]:
    """Processes that it started."""
    found: list[int] = []
    for thread in _entries(Path(f"/proc/{pid}/task")):
        try:
            found += [int(child) for child in (thread / "children").read_text().split()]
        except OSError:
            continue
    return found


def _entries(directory: Path) -> list[Path]:
    try:
        return list(directory.iterdir())
    except OSError:
        return []
