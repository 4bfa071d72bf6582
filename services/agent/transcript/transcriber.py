"""Writes down what callers say, after their turns and out of the calls' way: a process of its own does the work.

Nobody waits for it. Too much of it is left out, and a process that dies is started again.
"""

import asyncio
import contextlib
import importlib.util
import json
import logging
import sys
from pathlib import Path
from typing import Any

from services.agent.transcript import measures
from services.agent.transcript.backlog import Backlog, Words

log = logging.getLogger(__name__)

START_S = 120.0  # a large model takes long to load
SLOWEST = 20.0  # seconds of work for one of audio, and as many more: then the process is taken for stuck
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 60.0  # before it is started again
_LINE = 1 << 20


class TranscriptError(Exception):
    """Nothing can be written down; the message says why in one line."""


class Transcriber:
    """One agent's.

    Args:
        model: directory of a Whisper model for CTranslate2.
        threads: that it may use.
        backlog_s: seconds of audio that may wait.

    Raises:
        TranscriptError: there is no such model, or the package is not installed.
    """

    def __init__(self, model: Path, threads: int, backlog_s: float) -> None:
        if not (model / "model.bin").is_file():
            raise TranscriptError(f"{model} holds no Whisper model for CTranslate2: there is no model.bin")
        if importlib.util.find_spec("faster_whisper") is None:
            raise TranscriptError("the Python package faster-whisper is missing (the extra `transcript`)")
        self._command = [sys.executable, "-m", "services.agent.transcript.worker", str(model), str(threads)]
        self._backlog = Backlog(backlog_s)
        self._more = asyncio.Event()
        self._process: asyncio.subprocess.Process | None = None
        self._multilingual = False
        self._task: asyncio.Task[None] | None = None

    @property
    def waiting_s(self) -> float:
        """Seconds of audio that wait."""
        return self._backlog.seconds

    @property
    def pid(self) -> int | None:
        """Of the process, while there is one."""
        return self._process.pid if self._process is not None else None

    async def start(self) -> None:
        """Starts the process, and returns when it is ready.

        Raises:
            TranscriptError: it does not start.
        """
        await self._begin()
        self._task = asyncio.create_task(self._run(), name="transcriber")

    def submit(self, words: Words) -> bool:
        """Takes what a caller said; False when it is left out."""
        language = words.language[:2]
        if language != "en" and not self._multilingual:
            measures.dropped("language")
            return False
        if not self._backlog.put(words):
            measures.dropped("overload")
            return False
        self._more.set()
        return True

    async def close(self) -> None:
        """Ends the process; what waits is left out."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await self._end()

    async def _run(self) -> None:
        pause_s = _FIRST_PAUSE_S
        while True:
            words = self._backlog.get()
            if words is None:
                self._more.clear()
                await self._more.wait()
                continue
            try:
                if self._process is None:
                    await self._begin()
                answer = await self._ask(words)
            except (TranscriptError, OSError, ValueError, asyncio.IncompleteReadError, TimeoutError) as error:
                log.warning("what a caller said was not written down", extra={"error": type(error).__name__})
                measures.dropped("failed")
                await self._end()
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
                continue
            pause_s = _FIRST_PAUSE_S
            measures.written(words.seconds, float(answer["seconds"]))
            if answer["text"]:
                words.tell(str(answer["text"]))

    async def _ask(self, words: Words) -> dict[str, Any]:
        assert self._process is not None
        assert self._process.stdin is not None
        request = {"bytes": len(words.pcm), "language": words.language[:2]}
        async with asyncio.timeout(SLOWEST * (1 + words.seconds)):
            self._process.stdin.write(json.dumps(request).encode() + b"\n" + words.pcm)
            await self._process.stdin.drain()
            return await self._answer()

    async def _answer(self) -> dict[str, Any]:
        assert self._process is not None
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line:
            raise TranscriptError("the process ended")
        answer: dict[str, Any] = json.loads(line)
        return answer

    async def _begin(self) -> None:
        pipe = asyncio.subprocess.PIPE
        self._process = await asyncio.create_subprocess_exec(*self._command, stdin=pipe, stdout=pipe, limit=_LINE)
        try:
            async with asyncio.timeout(START_S):
                self._multilingual = bool((await self._answer())["multilingual"])
        except (TranscriptError, ValueError, KeyError, TimeoutError) as error:
            await self._end()
            raise TranscriptError("the process that writes down what callers say does not start: see above") from error

    async def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
