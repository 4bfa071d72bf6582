"""Streams at the engine, with the tiny released checkpoint."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from torch import Tensor

from services.common.errors import DrainingError, InvalidInputError
from services.decoder import synthesis, weights
from services.decoder.config import InferenceConfig
from services.decoder.engine import DecoderEngine
from services.decoder.flow.solving import FlowBlock, FlowSolver
from services.decoder.synthesis import Job, Synthesizer
from services.decoder.utterance import Pcm
from services.decoder.vocoder.hift import HiFTGenerator
from services.decoder.vocoder.stream import MelBlock, VocoderStream, render
from services.decoder.weights import Checkpoint
from training.paths import WEIGHTS

COUNTS = (7, 10, 31, 46, 64, 75, 90, 120)
BAD_CODE = 511
BATCHED_TOLERANCE = 4 / 32768  # float32 rounds differently in a batch


@pytest.fixture(scope="module")
def quick(tiny: Checkpoint) -> Checkpoint:
    return replace(tiny, config=tiny.config.model_copy(update={"inference": InferenceConfig(n_timesteps=2)}))


@pytest.fixture
async def engine(quick: Checkpoint) -> AsyncIterator[DecoderEngine]:
    made = DecoderEngine(quick, max_voices=1)
    yield made
    made.close()


@pytest.fixture
def nano() -> Checkpoint:
    return weights.load(WEIGHTS / "decoder")


def some_codes(count: int) -> list[int]:
    rng = random.Random(count)
    return [rng.randrange(BAD_CODE) for _ in range(count)]


async def speak(engine: DecoderEngine, count: int) -> npt.NDArray[np.float64]:
    stream, found = engine.open(seed=count, voice_id=""), []
    try:
        found += [pcm.data async for pcm in stream.push(some_codes(count))]
        found += [pcm.data async for pcm in stream.finish()]
    finally:
        stream.close()
    return np.frombuffer(b"".join(found), "<i2") / 32768.0


async def test_streams_share_steps_and_a_replay_is_the_same(
    engine: DecoderEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    original = Synthesizer.advance

    def watch(self: Synthesizer, jobs: Sequence[Job]) -> list[Pcm | Exception | None]:
        sizes.append(len(jobs))
        return original(self, jobs)

    alone = [await speak(engine, count) for count in COUNTS]
    assert np.array_equal(alone[3], await speak(engine, COUNTS[3]))
    monkeypatch.setattr(Synthesizer, "advance", watch)
    together = await asyncio.gather(*(speak(engine, count) for count in COUNTS))
    assert max(sizes) > 2
    assert len(sizes) < 0.75 * sum(sizes)
    for wanted, got in zip(alone, together, strict=True):
        assert len(wanted) == len(got)
        assert float(np.abs(wanted - got).max()) <= BATCHED_TOLERANCE
    assert (engine.open_streams, engine.pending_blocks) == (0, 0)


async def test_a_replay_in_company_sounds_the_same(nano: Checkpoint) -> None:
    """Harmonics carry on what rounding does to F0, so trained weights repeat less exactly than random ones."""
    engine = DecoderEngine(nano, max_voices=1)
    alone = [await speak(engine, count) for count in COUNTS]
    together = await asyncio.gather(*(speak(engine, count) for count in COUNTS))
    engine.close()
    for wanted, got in zip(alone, together, strict=True):
        difference = np.square(wanted - got).sum() / np.square(wanted).sum()
        assert difference < 1e-4  # 40 dB below


async def test_a_stream_given_up_while_it_is_computed_leaves_nothing(
    tiny: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = 0
    original = Synthesizer.advance

    def count(self: Synthesizer, jobs: Sequence[Job]) -> list[Pcm | Exception | None]:
        nonlocal steps
        steps += 1
        return original(self, jobs)

    monkeypatch.setattr(Synthesizer, "advance", count)
    engine = DecoderEngine(tiny.sampled(flow_steps=100), max_voices=1)

    async def abandoned() -> None:
        stream = engine.open(0, "")
        try:
            async for _ in stream.push(some_codes(2000)):
                pass
        finally:
            stream.close()

    task = asyncio.create_task(abandoned())
    while not steps:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert engine.open_streams == 0
    while engine.pending_blocks:
        await asyncio.sleep(0.01)
    assert steps < 50  # of a hundred: the block was dropped between two of them
    engine.close()


@pytest.mark.parametrize(("codes", "said"), [([], "at least one"), ([0, 512], "position 1"), ([1, -1], "position 1")])
async def test_a_refused_push_takes_nothing(engine: DecoderEngine, codes: list[int], said: str) -> None:
    stream = engine.open(0, "")
    with pytest.raises(InvalidInputError, match=said):
        [pcm async for pcm in stream.push(codes)]
    assert [pcm async for pcm in stream.finish()] == []
    stream.close()
    stream.close()  # twice is once
    assert engine.open_streams == 0


async def test_a_closed_engine_says_so(quick: Checkpoint) -> None:
    engine = DecoderEngine(quick, max_voices=1)
    stream = engine.open(0, "")
    engine.close()
    with pytest.raises(DrainingError):
        [pcm async for pcm in stream.push(some_codes(20))]


async def test_a_closed_stream_ends_quietly(engine: DecoderEngine) -> None:
    stream = engine.open(0, "")
    stream.close()
    assert [pcm async for pcm in stream.push(some_codes(20))] == []


async def test_what_fails_is_told_to_its_stream_alone(engine: DecoderEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    original = Synthesizer.advance

    def fail_once(self: Synthesizer, jobs: Sequence[Job]) -> list[Pcm | Exception | None]:
        monkeypatch.setattr(Synthesizer, "advance", original)
        raise RuntimeError("out of memory")

    monkeypatch.setattr(Synthesizer, "advance", fail_once)
    with pytest.raises(RuntimeError, match="out of memory"):
        await speak(engine, 10)
    assert len(await speak(engine, 10))
    assert (engine.open_streams, engine.pending_blocks) == (0, 0)


@pytest.mark.parametrize("part", ["flow", "vocoder"])
async def test_one_bad_stream_in_a_batch_fails_alone(
    engine: DecoderEngine, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    wanted = await speak(engine, 30)
    bad = engine.open(0, "")
    groups: list[int] = []
    step = FlowSolver.advance

    def flow(self: FlowSolver, blocks: Sequence[FlowBlock]) -> None:
        groups.append(len(blocks))
        if part == "flow" and any(BAD_CODE in block.codes for block in blocks):
            raise RuntimeError("a bad block")
        step(self, blocks)

    def vocoder(network: HiFTGenerator, jobs: Sequence[tuple[VocoderStream, MelBlock]]) -> list[Tensor]:
        if part == "vocoder" and any(stream is bad._utterance.vocoder for stream, _ in jobs):
            raise RuntimeError("a bad block")
        return render(network, jobs)

    async def fail() -> None:
        [_ async for _ in bad.push([BAD_CODE] * 10)]

    monkeypatch.setattr(FlowSolver, "advance", flow)
    monkeypatch.setattr(synthesis, "render", vocoder)
    results = await asyncio.gather(speak(engine, 30), fail(), speak(engine, 30), return_exceptions=True)
    bad.close()
    first, failure, last = results
    assert isinstance(failure, RuntimeError)
    assert max(groups) > 1
    for got in (first, last):
        assert isinstance(got, np.ndarray)
        assert len(got) == len(wanted)
        assert float(np.abs(wanted - got).max()) <= BATCHED_TOLERANCE
    assert (engine.open_streams, engine.pending_blocks) == (0, 0)
