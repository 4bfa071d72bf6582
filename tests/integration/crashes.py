"""Ways for a native process to die."""

import os
import platform
import signal
import time
from pathlib import Path

import pytest

LOAD_FROM_NULL = bytes.fromhex("488b042500000000")  # mov rax, [0], on x86-64
EPOLL_WAIT, EPOLL_PWAIT = "232", "281"


def kill(pid: int) -> signal.Signals:
    """From outside, as the kernel does when memory runs out."""
    os.kill(pid, signal.SIGKILL)
    return signal.SIGKILL


def fault(pid: int) -> signal.Signals:
    """From inside: a native thread reads through a null pointer when it next wakes from waiting for the network."""
    if platform.machine() != "x86_64":
        pytest.skip("the fault is made of x86-64 code")
    native = sorted(Path(f"/proc/{pid}/task").iterdir(), key=lambda path: int(path.name))[1:]
    until = time.monotonic() + 10
    while time.monotonic() < until:
        for thread in native:
            number, *_, counter = (thread / "syscall").read_text().split() * 2  # one word alone: it is running
            if number in (EPOLL_WAIT, EPOLL_PWAIT):
                with Path(f"/proc/{pid}/mem").open("r+b", buffering=0) as memory:
                    memory.seek(int(counter, 16))
                    memory.write(LOAD_FROM_NULL)  # into its own copy of the page
                return signal.SIGSEGV
    raise AssertionError("no native thread waits for the network")
