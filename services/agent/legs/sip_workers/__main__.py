"""`python -m services.agent.legs.sip_workers FD DIRECTORY`: one SIP worker.

An agent starts it. FD is its end of a socketpair; DIRECTORY has its temporary files, and is removed at its end.
"""

import asyncio
import faulthandler
import shutil
import signal
import socket
import sys

from services.agent.legs.sip_workers.worker import serve
from services.agent.logs import set_up


async def _run(descriptor: int) -> int:
    reader, writer = await asyncio.open_unix_connection(sock=socket.socket(fileno=descriptor))
    return await serve(reader, writer)


def main() -> None:
    """Entry point."""
    faulthandler.enable()  # a native crash says where Python was
    # Who stops a whole process group means the agent, which lets its calls end in order and then closes the socket.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    set_up("INFO")
    try:
        status = asyncio.run(_run(int(sys.argv[1])))
    finally:
        shutil.rmtree(sys.argv[2], ignore_errors=True)  # the agent may not be there any more to do so
    raise SystemExit(status)


if __name__ == "__main__":
    main()
