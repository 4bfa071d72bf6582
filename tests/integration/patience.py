"""Callers of the shipped models: greedy personas, a judge of what is heard, and the patience to ask again.

The small model mishears one question in ten and says some answers unclearly, and a busy machine tears words on the
line. What a test is about (a codec, an encryption, a leg) must not depend on that.
"""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import yaml

from tests.integration.stack import ROOT
from training.judge import transcribe

T = TypeVar("T")

TRIES = 3
_JUDGE = ThreadPoolExecutor(1)  # it cannot be loaded by two threads at once


def greedy_personas(directory: Path, **settings: object) -> Path:
    """A directory with the default persona, without chance: the same words get the same answer."""
    persona = yaml.safe_load((ROOT / "personas" / "default.yaml").read_text())
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "default.yaml").write_text(yaml.safe_dump({**persona, "temperature": 0.0, **settings}))
    return directory


async def judged(wave: npt.NDArray[np.float32], rate: int) -> str:
    """What the judge hears."""
    return await asyncio.get_running_loop().run_in_executor(_JUDGE, transcribe, wave, rate)


async def until_right(attempt: Callable[[], Awaitable[T]], right: Callable[[T], bool]) -> T:
    """The first right one of some attempts.

    Raises:
        AssertionError: none was; with all of them.
    """
    found: list[T] = []
    while len(found) < TRIES:
        found.append(await attempt())
        if right(found[-1]):
            return found[-1]
    raise AssertionError(found)
