"""The decoder's models behind an event loop: streams of tokens in, audio out; blocks of all streams are batched."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING

from services.common.errors import DrainingError, InvalidInputError
from services.common.telemetry import traces
from services.common.telemetry.model_service import EngineMeter
from services.decoder.batcher import FRAME_BUDGET
from services.decoder.blocks import FIRST_BLOCK
from services.decoder.synthesis import Job, Synthesizer
from services.decoder.utterance import Pcm, StoppedError, Utterance
from services.decoder.voices import VoiceRegistry, check_codes
from services.decoder.weights import Checkpoint
from services.decoder.worker import SynthesisWorker

if TYPE_CHECKING:  # onnxruntime is loaded only where such a model is configured
    from services.decoder.speaker import SpeakerEncoder


class DecoderEngine:
    """Synthesis for many streams at once, used from one event loop.

    Args:
        checkpoint: the models.
        max_voices: registered voices kept; the least recently used is dropped.
        frame_budget: mel frames computed in one step over all streams.
        speaker_encoder: gives registered voices their speaker embedding; without it they have the default one.
        clock: seconds; tells whose audio runs out first.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        max_voices: int,
        frame_budget: int = FRAME_BUDGET,
        speaker_encoder: "SpeakerEncoder | None" = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.checkpoint = checkpoint
        config = checkpoint.config
        self.sample_rate = config.sample_rate
        self.codebook_size = config.flow.vocab_size
        self.token_rate = config.flow.input_frame_rate
        self.revision = checkpoint.revision
        self.voices = VoiceRegistry(
            checkpoint.flow, self.sample_rate, self.token_rate, self.codebook_size, max_voices, speaker_encoder
        )
        self.clock = clock
        self.open_streams = 0
        self._worker = SynthesisWorker(Synthesizer(checkpoint), frame_budget)

    @property
    def pending_blocks(self) -> int:
        """Blocks that are due or being computed."""
        return self._worker.pending

    @property
    def meter(self) -> EngineMeter:
        """Its times."""
        return self._worker.meter

    async def warm_up(self) -> None:
        """Computes a first block once, so that the first caller does not pay for torch's own start."""
        stream = self.open(0, "")
        try:
            async for _ in stream.push([0] * FIRST_BLOCK):
                pass
        finally:
            stream.close()

    def open(self, seed: int, voice_id: str) -> "SynthesisStream":
        """A new utterance; close it.

        Raises:
            UnknownIdError: no such voice.
        """
        utterance = Utterance(self.checkpoint, seed, self.voices.get(voice_id))
        self.open_streams += 1
        return SynthesisStream(self, utterance)

    async def compute(self, job: Job, runs_out: float) -> Pcm:
        """A block's audio. Cancelling it does not stop the computing; stopping the utterance does.

        Raises:
            StoppedError: the utterance was stopped, or the engine closed.
        """
        loop = asyncio.get_running_loop()
        found: asyncio.Future[Pcm] = loop.create_future()

        def settle(result: Pcm | BaseException) -> None:
            if found.done():  # nobody waits any more
                return
            if isinstance(result, BaseException):
                found.set_exception(result)
            else:
                found.set_result(result)

        def done(result: Pcm | BaseException) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(settle, result)

        self._worker.submit(job, runs_out, done, traces.current())
        return await found

    async def register_voice(self, pcm: bytes, codes: Sequence[int]) -> str:
        """Takes a reference, returns the voice's id. Errors: see `VoiceRegistry.prepare`."""
        voice_id, voice = await asyncio.to_thread(self.voices.prepare, pcm, codes)
        self.voices.add(voice_id, voice)
        return voice_id

    async def forget_voice(self, voice_id: str) -> None:
        """Drops a voice, if it is there."""
        self.voices.forget(voice_id)

    def close(self) -> None:
        """Ends the worker's thread; blocks not done are dropped."""
        self._worker.close()


class SynthesisStream:
    """One utterance at the engine. Close it: what is still being computed stops at its next step."""

    def __init__(self, engine: DecoderEngine, utterance: Utterance) -> None:
        self._engine = engine
        self._utterance = utterance
        self._playing_since: float | None = None
        self._closed = False

    async def push(self, codes: Sequence[int]) -> AsyncIterator[Pcm]:
        """More tokens; yields the audio of every block that they complete.

        Raises:
            InvalidInputError: no codes, or one outside the codebook; nothing of `codes` is taken.
            DrainingError: the engine was closed.
        """
        if not codes:
            raise InvalidInputError(f"no codes: send at least one, each 0 to {self._engine.codebook_size - 1}")
        check_codes(codes, self._engine.codebook_size)
        self._utterance.push(codes)
        async for pcm in self._drain():
            yield pcm

    async def finish(self) -> AsyncIterator[Pcm]:
        """No more tokens; yields the rest."""
        self._utterance.finish()
        async for pcm in self._drain():
            yield pcm

    def close(self) -> None:
        """Stops the computing."""
        self._utterance.stop()
        if not self._closed:
            self._closed = True
            self._engine.open_streams -= 1

    async def _drain(self) -> AsyncIterator[Pcm]:
        try:
            while (work := self._utterance.next_work()) is not None:
                runs_out = (self._playing_since or 0.0) + self._utterance.seconds
                pcm = await self._engine.compute(Job(self._utterance, work), runs_out)
                if self._playing_since is None:
                    self._playing_since = self._engine.clock()
                yield pcm
        except StoppedError:
            if not self._closed:
                raise DrainingError("the decoder is stopping; use another replica") from None
