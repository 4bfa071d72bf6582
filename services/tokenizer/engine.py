"""Live utterances over one model: the event loop hands audio in, a worker thread encodes what is due, in batches."""

import asyncio
import time
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from opentelemetry.context import Context
from torch import Tensor

from services.common.batches import together
from services.common.errors import DrainingError, InvalidInputError
from services.common.telemetry import traces
from services.common.telemetry.model_service import EngineMeter
from services.tokenizer.batcher import Batcher
from services.tokenizer.streaming import Tokens, Utterance, encode
from services.tokenizer.weights import Checkpoint

SAMPLE_BYTES = 2
GPU_BATCH_FRAMES = 1600  # 32 s of sound: eight blocks of the released model
# A CPU gains from batching short blocks only; a batch of long ones makes each caller wait for the others'.
CPU_BATCH_FRAMES = 256


@dataclass(frozen=True, slots=True)
class TokenizerInfo:
    """What callers of an engine need to know.

    Attributes:
        sample_rate: of the PCM that it takes, hertz.
        codebook_size: tokens are below it.
        token_samples: samples of one token.
        block_tokens: tokens become final this many at a time.
        max_seconds: longest utterance.
        revision: names the weights.
    """

    sample_rate: int
    codebook_size: int
    token_samples: int
    block_tokens: int
    max_seconds: int
    revision: str


@dataclass(eq=False, slots=True)
class _Work:
    """An utterance with something due, and who waits for it."""

    utterance: Utterance
    done: asyncio.Future[Tokens]
    due: float  # since when
    trace: Context | None  # whose spans it has


class TokenizerEngine:
    """Opens utterances and encodes for all of them in one thread.

    While a batch is computed, what becomes due in other utterances collects, and goes together as the next batch;
    nothing waits for a batch to fill. Belongs to one event loop.

    Args:
        checkpoint: the tokenizer.
        max_seconds: longest utterance.
        interim_tokens: tokens added to the open block between two interim results.
        batch_frames: frames (50 Hz) of a batch, padding included; 0 for what suits the device.
        whole: encode utterances as a whole when they have ended, as the reference does; see `Utterance`.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        max_seconds: int,
        interim_tokens: int,
        batch_frames: int = 0,
        whole: bool = False,
    ) -> None:
        self.checkpoint = checkpoint
        self.max_seconds = max_seconds
        config = checkpoint.encoder.config
        self.info = TokenizerInfo(
            sample_rate=checkpoint.log_mel.config.sample_rate,
            codebook_size=config.codes,
            token_samples=checkpoint.token_samples,
            block_tokens=(config.max_frames if whole else config.block_frames) // config.pooling,
            max_seconds=max_seconds,
            revision=checkpoint.revision,
        )
        self._interim_tokens = interim_tokens
        self._whole = whole
        on_cpu = checkpoint.log_mel.window.device.type == "cpu"
        self._waiting: Batcher[_Work] = Batcher(batch_frames or (CPU_BATCH_FRAMES if on_cpu else GPU_BATCH_FRAMES))
        self._running: list[_Work] = []
        self._began = 0.0  # when they were taken
        self.meter = EngineMeter("tokenizer")
        self._closed = False
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="tokenizer")

    @property
    def pending(self) -> int:
        """Utterances that wait for the encoder or are in it."""
        return len(self._waiting) + len(self._running)

    def open(self, interim_results: bool) -> "LiveUtterance":
        """A new utterance; it holds nothing that must be given back."""
        utterance = Utterance(self.checkpoint, self._interim_tokens if interim_results else 0, self._whole)
        return LiveUtterance(self, utterance)

    async def warm_up(self) -> None:
        """Encodes a second of silence, so that the first caller does not wait for lazy initialisation."""
        utterance = self.open(interim_results=False)
        async for _ in utterance.push(bytes(SAMPLE_BYTES * self.info.sample_rate)):
            pass
        async for _ in utterance.finish():
            pass

    async def encode(self, utterance: Utterance) -> Tokens:
        """Encodes what is due of an utterance, together with what is due of others.

        A caller that is cancelled leaves no work behind; the batch that it may be in goes on without it.

        Raises:
            DrainingError: the engine is closed.
        """
        due = utterance.due
        if due is None:
            raise RuntimeError("nothing is due")
        if self._closed:
            raise DrainingError("the tokenizer has been closed")
        loop = asyncio.get_running_loop()
        work = _Work(utterance, loop.create_future(), time.monotonic(), traces.current())
        self._waiting.add(work, due.frames, due.urgent)
        # Not at once: what else becomes due in this turn of the loop joins the batch.
        loop.call_soon(self._start_batch)
        try:
            return await work.done
        finally:
            self._waiting.discard(work)

    def close(self) -> None:
        """Waits for the batch under way and ends the thread; whoever still waits gets a `DrainingError`."""
        self._closed = True
        self._worker.shutdown()
        while batch := self._waiting.take():
            _fail(batch, DrainingError("the tokenizer has been closed"))

    def _start_batch(self) -> None:
        if self._running or self._closed:
            return
        self._running = self._waiting.take()
        if self._running:
            self._began = time.monotonic()
            for work in self._running:
                self.meter.waited(self._began - work.due)
            utterances = [work.utterance for work in self._running]
            batch = asyncio.get_running_loop().run_in_executor(self._worker, self._encode, utterances)
            batch.add_done_callback(self._end_batch)

    def _encode(self, utterances: list[Utterance]) -> list[Tokens | Exception]:
        return together(utterances, lambda group: encode(self.checkpoint, group))

    def _end_batch(self, batch: asyncio.Future[list[Tokens | Exception]]) -> None:
        done, self._running = self._running, []
        now = time.monotonic()
        self.meter.stepped(len(done), now - self._began)
        for work in done:
            if work.trace is not None:
                traces.tell("queue", work.trace, work.due, self._began)
                traces.tell("encode", work.trace, self._began, now)
        for work, tokens in zip(done, batch.result(), strict=True):
            if isinstance(tokens, Exception):
                _fail([work], tokens)
            elif not work.done.done():
                work.done.set_result(tokens)
        self._start_batch()


class LiveUtterance:
    """One utterance of the engine, used by one task."""

    def __init__(self, engine: TokenizerEngine, utterance: Utterance) -> None:
        self._engine = engine
        self._utterance = utterance
        self.samples = 0

    async def push(self, pcm: bytes) -> AsyncGenerator[Tokens, None]:
        """Takes more audio and yields the tokens that it completes.

        Args:
            pcm: mono, signed 16-bit little endian, at the checkpoint's rate; any even number of bytes.

        Raises:
            InvalidInputError: half a sample, or the utterance grows longer than allowed.
        """
        if len(pcm) % SAMPLE_BYTES:
            raise InvalidInputError(f"pcm has {len(pcm)} bytes; 16-bit samples need an even number")
        info = self._engine.info
        if self.samples + len(pcm) // SAMPLE_BYTES > info.max_seconds * info.sample_rate:
            raise InvalidInputError(
                f"the utterance is too long: at most {info.max_seconds} s are allowed, "
                f"which are {info.max_seconds * info.sample_rate} samples"
            )
        self.samples += len(pcm) // SAMPLE_BYTES
        self._utterance.push(samples_of(pcm))
        async for tokens in self._encode():
            yield tokens

    async def finish(self) -> AsyncGenerator[Tokens, None]:
        """Ends the utterance and yields its last tokens."""
        self._utterance.end()
        async for tokens in self._encode():
            yield tokens

    def close(self) -> None:
        """Gives back what the utterance holds: nothing, for work that nobody waits for is dropped by itself."""

    async def _encode(self) -> AsyncGenerator[Tokens, None]:
        while self._utterance.due is not None:
            yield await self._engine.encode(self._utterance)


def samples_of(pcm: bytes) -> Tensor:
    """Samples in [-1, 1), (samples,), of 16-bit little-endian PCM."""
    return torch.from_numpy(np.frombuffer(pcm, dtype="<i2").astype(np.float32) / 32768.0)


def _fail(batch: list[_Work], error: BaseException) -> None:
    for work in batch:
        if not work.done.done():
            work.done.set_exception(error)
