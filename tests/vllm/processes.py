"""Which processes there are, from /proc."""

import time
from pathlib import Path


def descendants(pid: int) -> list[int]:
    """Ids of the processes that a process started, and of those that they started."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [found for child in map(int, children) for found in (child, *descendants(child))]


def command(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text()


def lives(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def wait_for_end(pids: list[int]) -> None:
    limit = time.monotonic() + 60
    while left := [pid for pid in pids if lives(pid)]:
        assert time.monotonic() < limit, left
        time.sleep(0.1)
