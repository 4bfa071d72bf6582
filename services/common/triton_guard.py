"""Ends a model's process when Triton's has died. A process of its own watches: the model's may be stuck by then.

The python backend asks the server by way of locks in shared memory, at times with Python's own lock held. When the
server is killed just then, no thread of the model's process runs any more, not even one that was to notice.
"""

import os
import subprocess

POLL_S = 0.5
_WATCH = """
while grep -qs "^PPid:[[:space:]]*$2\\$" "/proc/$1/status"; do sleep "$3"; done
if kill -9 "$1" 2>/dev/null; then echo "triton: the server has died, and so does its model (pid $1)" >&2; fi
"""


class Guard:
    """Watches from `start` to `stop` whose child this process is, and kills it (SIGKILL) once it is another's."""

    def __init__(self, poll_s: float = POLL_S) -> None:
        self._poll_s = poll_s
        self._watching: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Begins to watch."""
        command = ["/bin/sh", "-c", _WATCH, "triton-guard", str(os.getpid()), str(os.getppid()), str(self._poll_s)]
        self._watching = subprocess.Popen(command, stdin=subprocess.DEVNULL)  # noqa: S603 - numbers of our own

    def stop(self) -> None:
        """Watches no more."""
        if self._watching is not None:
            self._watching.terminate()
            self._watching.wait()
