"""The decoder's models behind an event loop: one worker thread computes the blocks of all utterances in turn."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from services.decoder.blocks import FIRST_BLOCK
from services.decoder.utterance import Pcm, StoppedError, Utterance
from services.decoder.voices import VoiceRegistry, check_codes, default_voice
from services.decoder.weights import Checkpoint


class DecoderEngine:
    """Synthesis for many streams at once. Blocks are computed one at a time, in the order in which they became due.

    Args:
        checkpoint: the models.
        max_voices: registered voices kept; the least recently used is dropped.
    """

    def __init__(self, checkpoint: Checkpoint, max_voices: int) -> None:
        self._checkpoint = checkpoint
        config = checkpoint.config
        self.sample_rate = config.sample_rate
        self.codebook_size = config.flow.vocab_size
        self.token_rate = config.flow.input_frame_rate
        self.revision = checkpoint.revision
        self.voices = VoiceRegistry(checkpoint.flow, self.sample_rate, self.token_rate, self.codebook_size, max_voices)
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="decoder")

    async def warm_up(self) -> None:
        """Computes a first block once, so that the first caller does not pay for torch's own start."""
        utterance = Utterance(self._checkpoint, 0, default_voice(self._checkpoint.flow.mel_bins))
        utterance.push([0] * FIRST_BLOCK)
        await self._run(utterance)

    def open(self, seed: int, voice_id: str) -> "SynthesisStream":
        """A new utterance.

        Raises:
            UnknownIdError: no such voice.
        """
        utterance = Utterance(self._checkpoint, seed, self.voices.get(voice_id))
        return SynthesisStream(self, utterance)

    async def _run(self, utterance: Utterance) -> Pcm | None:
        return await asyncio.get_running_loop().run_in_executor(self._worker, utterance.next_pcm)

    async def register_voice(self, pcm: bytes, codes: Sequence[int]) -> str:
        """Takes a reference, returns the voice's id. Errors: see `VoiceRegistry.prepare`."""
        loop = asyncio.get_running_loop()
        voice_id, voice = await loop.run_in_executor(self._worker, self.voices.prepare, pcm, codes)
        self.voices.add(voice_id, voice)
        return voice_id

    def close(self) -> None:
        """Ends the worker thread; work not begun is dropped."""
        self._worker.shutdown(wait=True, cancel_futures=True)


class SynthesisStream:
    """One utterance at the engine. Close it: what is still being computed stops at its next step."""

    def __init__(self, engine: DecoderEngine, utterance: Utterance) -> None:
        self._engine = engine
        self._utterance = utterance

    async def push(self, codes: Sequence[int]) -> AsyncIterator[Pcm]:
        """More tokens; yields the audio of every block that they complete.

        Raises:
            InvalidInputError: a code is outside the codebook; nothing of `codes` is taken.
        """
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

    async def _drain(self) -> AsyncIterator[Pcm]:
        try:
            while (pcm := await self._engine._run(self._utterance)) is not None:
                yield pcm
        except StoppedError:
            return
