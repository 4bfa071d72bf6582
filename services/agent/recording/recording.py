"""Recordings of calls: from the taps in a call's pipeline over the timeline to a file, never in the call's way."""

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from services.agent.legs.base import INPUT_RATE
from services.agent.legs.rates import converter
from services.agent.recording.files import AudioFile, RecordingFormat, create
from services.agent.recording.policy import RecordingPolicy
from services.agent.recording.timeline import Pcm, Timeline

log = logging.getLogger(__name__)

RATE = INPUT_RATE
WRITE_EVERY_S = 0.5
MAX_BACKLOG_S = 30.0  # a disk that is further behind is given up: 2 MB of a call's audio
WRITERS = 4  # threads, for all calls of an agent

T = TypeVar("T")


class Recordings:
    """Where an agent's recordings go.

    Args:
        directory: exists and can be written to.

    Raises:
        OSError: it does not, or cannot.
    """

    def __init__(self, directory: Path, kind: RecordingFormat) -> None:
        if not directory.is_dir():
            raise OSError(f"recordings directory {directory} does not exist")
        if not os.access(directory, os.W_OK | os.X_OK):
            raise OSError(f"recordings directory {directory} cannot be written to")
        self._directory = directory
        self._kind = kind
        self._threads = ThreadPoolExecutor(WRITERS, "recording")

    def of(self, call_id: str, policy: RecordingPolicy, clock: Callable[[], float] = time.monotonic) -> "Recording":
        """A call's recording, not begun yet. Its file bears the call's id."""
        path = self._directory / f"{call_id}.{self._kind.value}"
        return Recording(call_id, path, self._kind, policy, self._threads, clock)

    def close(self) -> None:
        """Frees the threads; a stuck one is left behind."""
        self._threads.shutdown(wait=False, cancel_futures=True)


class Recording:
    """One call's recording.

    A failure (full disk, lost mount) ends the recording and is logged once; the call never notices. All but `close`
    return at once.
    """

    def __init__(
        self,
        call_id: str,
        path: Path,
        kind: RecordingFormat,
        policy: RecordingPolicy,
        threads: ThreadPoolExecutor,
        clock: Callable[[], float],
    ) -> None:
        self._call_id = call_id
        self._path = path
        self._kind = kind
        self._policy = policy
        self._threads = threads
        self._clock = clock
        self._timeline: Timeline | None = None  # while there is something to record
        self._paused = False
        self._bot_rate = 0
        self._from_bot = converter(RATE, RATE)
        self._over = asyncio.Event()
        self._ended = 0.0
        self._writing: asyncio.Task[None] | None = None

    @property
    def paused(self) -> bool:
        """Nothing is recorded now, and what is said is nobody else's business."""
        return self._paused

    def begin(self) -> None:
        """The call is answered: the recording's first sample is now."""
        timeline = self._timeline = Timeline(RATE, self._clock())
        if self._paused:
            self.pause()
        self._writing = asyncio.create_task(self._write(timeline), name=f"recording-{self._call_id}")

    def caller(self, audio: bytes) -> None:
        """The caller's audio as it arrived: 16-bit mono PCM at 16 kHz."""
        if (timeline := self._on_time()) is not None:
            timeline.caller(self._clock(), np.frombuffer(audio, np.int16))

    def bot(self, packet: bytes, rate: int) -> None:
        """A packet that goes out: 16-bit mono PCM."""
        if (timeline := self._on_time()) is not None:
            if rate != self._bot_rate:
                self._bot_rate, self._from_bot = rate, converter(rate, RATE)
            timeline.bot(self._clock(), self._from_bot.convert(np.frombuffer(packet, np.int16)))

    def interrupt(self) -> None:
        """What went out and is not heard yet never will be."""
        if self._timeline is not None:
            self._timeline.interrupt(self._clock())

    def pause(self) -> None:
        """Silence from now on, in both channels, and the caller's keys are nobody's business. Idempotent."""
        self._paused = True
        if self._timeline is not None:
            self._timeline.pause(self._clock())

    def resume(self) -> None:
        """Ends a pause. Idempotent."""
        self._paused = False
        if self._timeline is not None:
            self._timeline.resume(self._clock())

    def key(self, digit: str) -> bool:
        """The caller pressed a key; returns whether anyone else may know of it."""
        paused = self._paused
        if digit == self._policy.resume_key and paused:
            self.resume()
            return True
        if digit == self._policy.pause_key and not paused:
            self.pause()
            return True
        return not paused

    def end(self) -> None:
        """The call is over: the recording's last sample is now. Idempotent."""
        if not self._over.is_set():
            self._over.set()
            self._ended = self._clock()

    async def close(self) -> None:
        """Completes the file. Idempotent."""
        self.end()
        if self._writing is not None:
            await asyncio.wait({self._writing})

    def _on_time(self) -> Timeline | None:
        if self._timeline is not None and self._timeline.backlog_s(self._clock()) > MAX_BACKLOG_S:
            self._give_up("the disk is too slow")
        return self._timeline

    async def _write(self, timeline: Timeline) -> None:
        """The only one that touches the file."""
        file: AudioFile | None = None
        try:
            file = await self._in_thread(lambda: create(self._path, self._kind, RATE))
            while not self._over.is_set():
                await self._put(file, timeline.take(self._clock()))
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._over.wait(), WRITE_EVERY_S)
            await self._put(file, timeline.close(self._ended))
        except OSError as error:
            self._give_up(error.strerror or type(error).__name__)
        finally:
            self._timeline = None
            if file is not None:
                with contextlib.suppress(OSError):  # what could not be written was told of
                    await self._in_thread(file.close)

    async def _put(self, file: AudioFile, blocks: Iterator[Pcm]) -> None:
        for block in blocks:
            if self._timeline is not None:
                await self._in_thread(partial(file.write, block))

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def _give_up(self, why: str) -> None:
        """Once at most: without a timeline there is nothing left to fail."""
        if self._timeline is not None:
            self._timeline = None
            log.error("a recording ends before its call", extra={"call_id": self._call_id, "why": why})
