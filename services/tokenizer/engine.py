"""Live utterances over one model: the event loop hands audio in, a worker thread computes."""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from services.common.errors import InvalidInputError
from services.tokenizer.streaming import Tokens, Utterance
from services.tokenizer.weights import Checkpoint

SAMPLE_BYTES = 2


class TokenizerEngine:
    """Opens utterances and computes for all of them in one thread, a block at a time, in the order of arrival.

    Args:
        checkpoint: the tokenizer.
        max_seconds: longest utterance.
        interim_tokens: tokens added to the open block between two interim results.
    """

    def __init__(self, checkpoint: Checkpoint, max_seconds: int, interim_tokens: int) -> None:
        self.checkpoint = checkpoint
        self.max_seconds = max_seconds
        self._interim_tokens = interim_tokens
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="tokenizer")

    def open(self, interim_results: bool) -> "LiveUtterance":
        """A new utterance; it holds nothing that must be given back."""
        utterance = Utterance(self.checkpoint, self._interim_tokens if interim_results else 0)
        limit = self.max_seconds * self.checkpoint.log_mel.config.sample_rate
        return LiveUtterance(utterance, self._worker, limit)

    async def warm_up(self) -> None:
        """Encodes a second of silence, so that the first caller does not wait for lazy initialisation."""
        utterance = self.open(interim_results=False)
        async for _ in utterance.push(bytes(SAMPLE_BYTES * self.checkpoint.log_mel.config.sample_rate)):
            pass
        async for _ in utterance.finish():
            pass

    def close(self) -> None:
        """Waits for the computation under way and ends the thread."""
        self._worker.shutdown(cancel_futures=True)


class LiveUtterance:
    """One utterance of the engine, used by one task."""

    def __init__(self, utterance: Utterance, worker: ThreadPoolExecutor, limit: int) -> None:
        self._utterance = utterance
        self._worker = worker
        self._limit = limit
        self.samples = 0

    async def push(self, pcm: bytes) -> AsyncIterator[Tokens]:
        """Takes more audio and yields the tokens that it completes.

        Args:
            pcm: mono, signed 16-bit little endian, at the checkpoint's rate; any even number of bytes.

        Raises:
            InvalidInputError: half a sample, or the utterance grows longer than allowed.
        """
        if len(pcm) % SAMPLE_BYTES:
            raise InvalidInputError(f"pcm has {len(pcm)} bytes; 16-bit samples need an even number")
        self.samples += len(pcm) // SAMPLE_BYTES
        if self.samples > self._limit:
            raise InvalidInputError(f"the utterance is longer than {self._limit} samples; see Info.max_seconds")
        self._utterance.push(samples_of(pcm))
        async for tokens in self._compute():
            yield tokens

    async def finish(self) -> AsyncIterator[Tokens]:
        """Ends the utterance and yields its last tokens."""
        self._utterance.end()
        async for tokens in self._compute():
            yield tokens

    async def _compute(self) -> AsyncIterator[Tokens]:
        loop = asyncio.get_running_loop()
        while self._utterance.ready:
            tokens = await loop.run_in_executor(self._worker, self._utterance.step)
            if tokens is not None:
                yield tokens


def samples_of(pcm: bytes) -> Tensor:
    """Samples in [-1, 1), (samples,), of 16-bit little-endian PCM."""
    return torch.from_numpy(np.frombuffer(pcm, dtype="<i2").astype(np.float32) / 32768.0)
