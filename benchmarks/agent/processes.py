"""What processes hold: memory, descriptors, threads; from /proc."""

import os
from dataclasses import dataclass
from pathlib import Path

SHARED = " /dev/shm/"


@dataclass(frozen=True)
class Held:
    """By one process.

    Attributes:
        rss_kib: resident memory.
        own_kib: what of it is no file's: heaps and stacks, where what is forgotten stays. How much of a library is
            resident changes with other processes that read it.
        shm: its mappings under /dev/shm.
    """

    rss_kib: int
    own_kib: int
    descriptors: int
    threads: int
    shm: int


def held(pid: int) -> Held:
    """What a process holds now.

    Raises:
        OSError: it is gone.
    """
    sizes = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, _, size = line.partition(":")
        sizes[name] = int(size.split()[0])
    maps = Path(f"/proc/{pid}/maps").read_text().splitlines()
    return Held(
        rss_kib=sizes["Rss"],
        own_kib=sizes["Anonymous"],
        descriptors=len(os.listdir(f"/proc/{pid}/fd")),
        threads=len(os.listdir(f"/proc/{pid}/task")),
        shm=sum(SHARED in line for line in maps),
    )
