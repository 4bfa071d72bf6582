"""A bot without models: recites a recording over the real phone line, with the real ears, and can be interrupted.

What is played, heard and cancelled goes the agent's own way, from the leg to the turns; only what there is to say does
not come from a language model. So a small machine has time for the clocks that are measured.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.workers.runner import WorkerRunner

from loadtest.sip.wire import Pcm
from services.agent.echo import PlayedLine
from services.agent.legs.base import INPUT_RATE, Leg
from services.agent.legs.sip import SipLeg
from services.agent.player import Media, Player
from services.agent.processors import EchoProcessor, SpeechProcessor, TurnProcessor
from services.agent.silence import SilenceWatch
from services.agent.turns import TurnSettings
from services.agent.voice_activity import EndOfTurn, VoiceActivity
from tests.integration.sip_bots import endpoint


class Reciter:
    """In the place of a call's `Speech`: says one recording, and `again` after each interruption.

    Args:
        recording: at `INPUT_RATE`.
        again: seconds after the caller's turn until it begins anew; None: never.
    """

    def __init__(self, recording: Pcm, again: float | None) -> None:
        self._recording = recording.tobytes()
        self._again = again
        self._player: Player | None = None
        self._media: Media | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.interrupted: list[float] = []  # Unix times of the decisions
        self.finished = asyncio.Event()
        self.floor_is_free = False
        self.processor: SpeechProcessor | None = None

    def connect(self, media: Media) -> None:
        self._media = media
        self._begin()

    def interrupt(self) -> bool:
        if self._player is None or not self._player.audible:
            return False
        self._player.stop()
        self.interrupted.append(time.time())
        return True

    def caller_started(self, _audio: bytes) -> None: ...

    def caller_audio(self, _audio: bytes) -> None: ...

    def caller_paused(self) -> None: ...

    def caller_resumed(self) -> None: ...

    def caller_dropped(self) -> None: ...

    def caller_ended(self, _speech_end: float, _decided: float) -> None:
        if self._again is not None and self._player is not None and not self._player.audible:
            self._begin()

    def _begin(self) -> None:
        task = asyncio.create_task(self._recite())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _recite(self) -> None:
        assert self._media is not None
        assert self.processor is not None
        player = self._player = Player(INPUT_RATE, time.monotonic, lambda: None)
        player.push(self._recording, len(self._recording) // (2 * INPUT_RATE // 25 * 2))
        player.complete()
        await self.processor.bot_speaks(True)
        await player.run(self._media)
        await self.processor.bot_speaks(False)
        if player.audible:
            self.finished.set()


class RecitingBot:
    """An acceptor whose calls hear a `Reciter`."""

    def __init__(self, reciter: Reciter, end_of_turn: EndOfTurn) -> None:
        self.reciter = reciter
        self._end_of_turn = end_of_turn
        self._tasks: set[asyncio.Task[None]] = set()

    async def __call__(self, leg: Leg) -> str:
        assert isinstance(leg, SipLeg)
        task = asyncio.create_task(self._talk(leg))
        self._tasks.add(task)
        return leg.sip_call_id

    async def _talk(self, leg: SipLeg) -> None:
        await leg.answer()
        played = PlayedLine()
        turns = TurnProcessor(TurnSettings(), True, VoiceActivity(), self._end_of_turn)
        speech = SpeechProcessor(
            self.reciter,  # type: ignore[arg-type]  # in its place
            leg.output_rate,
            lambda _: None,
            self.reciter.connect,
            SilenceWatch(None),
            lambda: None,
            played,
            leg,
        )
        self.reciter.processor = speech
        worker = PipelineWorker(
            Pipeline([leg.transport.input(), EchoProcessor(played), turns, speech, leg.transport.output()]),
            params=PipelineParams(audio_in_sample_rate=INPUT_RATE, audio_out_sample_rate=leg.output_rate),
            enable_rtvi=False,
            enable_turn_tracking=False,
            idle_timeout_secs=None,
        )
        runner = WorkerRunner(handle_sigint=False, check_dangling_tasks=False)
        await runner.add_workers(worker)
        running = asyncio.create_task(runner.run())
        await asyncio.wait({running, leg.ended}, return_when=asyncio.FIRST_COMPLETED)
        await worker.cancel()
        await running

    async def close(self) -> None:
        for task in self._tasks:
            await asyncio.wait({task}, timeout=10)


@contextlib.asynccontextmanager
async def reciting(recording: Pcm, again: float | None = None) -> AsyncIterator[tuple[Reciter, int]]:
    """A bot on a phone line of its own, and the line's SIP port."""
    end_of_turn = EndOfTurn()
    bot = RecitingBot(Reciter(recording, again), end_of_turn)
    async with endpoint(bot) as line:
        yield bot.reciter, line.port
        await bot.close()
    await end_of_turn.close()
