import os
import signal
import subprocess
import sys
import time
from pathlib import Path

SERVER = """
import subprocess, sys
model = subprocess.Popen([sys.executable, "-c", sys.argv[1]])
print(model.pid, flush=True)
model.wait()
"""
STUCK = """
import ctypes, sys
from services.common.triton_guard import Guard
Guard(poll_s=0.05).start()
print("stuck", flush=True)
ctypes.PyDLL(None).pause()  # holds Python's lock for ever
"""
DONE = """
from services.common.triton_guard import Guard
guard = Guard(poll_s=0.05)
guard.start()
guard.stop()
print("done", flush=True)
import time
time.sleep(600)
"""


def started(model: str) -> tuple[subprocess.Popen[str], int]:
    """A server, and the pid of its model once that has said something."""
    server = subprocess.Popen([sys.executable, "-c", SERVER, model], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    lines = sorted((server.stdout.readline(), server.stdout.readline()))
    return server, int(lines[0])


def lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"  # whoever inherits it may never ask for its status


def test_a_model_that_is_stuck_dies_with_its_server() -> None:
    server, model = started(STUCK)
    with server:
        assert lives(model)
        server.kill()
    until = time.monotonic() + 60
    while lives(model):
        assert time.monotonic() < until
        time.sleep(0.02)


def test_nobody_is_killed_after_the_guard_was_stopped() -> None:
    server, model = started(DONE)
    with server:
        children = subprocess.run(
            ["ps", "-o", "args=", "--ppid", str(model)], capture_output=True, text=True, check=False
        )
        assert "triton-guard" not in children.stdout
        server.kill()
    assert lives(model)
    os.kill(model, signal.SIGKILL)
