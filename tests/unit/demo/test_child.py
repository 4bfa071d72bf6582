import asyncio
import os
import sys
from pathlib import Path

import pytest

from services.demo.child import Child, ChildError


def child(tmp_path: Path, source: str) -> Child:
    return Child("part", [sys.executable, "-c", source], tmp_path / "part.log")


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_it_is_ready_when_it_says_so_and_gone_when_stopped(tmp_path: Path) -> None:
    part = child(tmp_path, "print('serving on port 1234'); import time; time.sleep(600)")
    await part.start(30)
    assert part.port == 1234
    assert is_alive(part.pid)
    await part.stop()
    assert not is_alive(part.pid)


async def test_one_that_will_not_end_is_killed(tmp_path: Path) -> None:
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    part = child(tmp_path, deaf + "print('serving on port 1'); time.sleep(600)")
    await part.start(30)
    await part.stop(grace_s=0.1)
    assert not is_alive(part.pid)


async def test_the_last_line_tells_why_it_could_not_start(tmp_path: Path) -> None:
    part = child(tmp_path, "import sys; print('lm: error: no weights in /x', file=sys.stderr); sys.exit(2)")
    with pytest.raises(ChildError, match=r"part could not start: lm: error: no weights in /x \(log: .*part.log\)"):
        await part.start(30)


async def test_one_that_never_gets_ready_is_named(tmp_path: Path) -> None:
    part = child(tmp_path, "import time; time.sleep(600)")
    with pytest.raises(ChildError, match="part was not ready"):
        await part.start(0.2)
    await part.stop()


async def test_its_end_can_be_waited_for(tmp_path: Path) -> None:
    part = child(tmp_path, "print('serving on port 1')")
    await part.start(30)
    assert await asyncio.wait_for(part.wait(), 30) == 0
    await part.stop()
