"""The engine: who is encoded together, and what is left when callers go."""

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence

import pytest
import torch

from services.common.errors import DrainingError, InvalidInputError
from services.tokenizer import engine as engine_module
from services.tokenizer.engine import LiveUtterance, TokenizerEngine, samples_of
from services.tokenizer.streaming import Tokens, Utterance, encode
from services.tokenizer.weights import Checkpoint, load
from services.tokenizer.whole import tokenise
from tests.unit.tokenizer.checkpoint import noise, write

TOKEN = 1280
BLOCK = 4 * TOKEN


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return load(write(tmp_path_factory.mktemp("weights")))


@pytest.fixture
async def engine(checkpoint: Checkpoint) -> AsyncIterator[TokenizerEngine]:
    running = TokenizerEngine(checkpoint, max_seconds=10, interim_tokens=2)
    yield running
    running.close()


class Gate:
    """Holds the worker at the start of each batch until it is opened, and records who was in the batches."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.open = threading.Event()
        self.sizes: list[int] = []
        monkeypatch.setattr(engine_module, "encode", self._encode)

    def _encode(self, checkpoint: Checkpoint, utterances: Sequence[Utterance]) -> list[Tokens]:
        self.sizes.append(len(utterances))
        assert self.open.wait(60)
        return encode(checkpoint, utterances)


def pcm_of(samples: torch.Tensor) -> bytes:
    data: bytes = (samples * 32768).to(torch.int16).numpy().tobytes()
    return data


async def tokens_of(utterance: LiveUtterance, pcm: bytes) -> list[int]:
    ids = [id_ async for tokens in utterance.push(pcm) for id_ in tokens.ids if tokens.final]
    return ids + [id_ async for tokens in utterance.finish() for id_ in tokens.ids]


async def until(condition: object, value: object) -> None:
    assert callable(condition)
    while condition() != value:
        await asyncio.sleep(0.001)


async def test_utterances_that_end_at_the_same_time_are_one_batch(
    engine: TokenizerEngine, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(monkeypatch)
    gate.open.set()
    sounds = [pcm_of(noise(100 + 501 * index, seed=index)) for index in range(8)]
    results = await asyncio.gather(*(tokens_of(engine.open(False), sound) for sound in sounds))
    assert gate.sizes == [8]
    assert results == [tokenise(checkpoint, [samples_of(sound)])[0] for sound in sounds]
    assert engine.pending == 0


async def test_what_comes_during_a_batch_is_the_next_batch(
    engine: TokenizerEngine, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(monkeypatch)
    sound = pcm_of(noise(3 * TOKEN, seed=1))
    callers = [asyncio.create_task(tokens_of(engine.open(False), sound))]
    await until(lambda: gate.sizes, [1])
    callers += [asyncio.create_task(tokens_of(engine.open(False), sound)) for _ in range(3)]
    await until(lambda: engine.pending, 4)
    gate.open.set()
    assert await asyncio.gather(*callers) == [tokenise(checkpoint, [samples_of(sound)])[0]] * 4
    assert gate.sizes == [1, 3]


async def test_a_batch_keeps_to_its_budget(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(monkeypatch)
    gate.open.set()
    engine = TokenizerEngine(checkpoint, max_seconds=10, interim_tokens=2, batch_frames=3 * 12)
    sound = pcm_of(noise(3 * TOKEN, seed=1))  # 12 frames
    await asyncio.gather(*(tokens_of(engine.open(False), sound) for _ in range(8)))
    engine.close()
    assert gate.sizes == [3, 3, 2]


async def test_who_has_stopped_speaking_goes_before_who_speaks_on(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(monkeypatch)
    engine = TokenizerEngine(checkpoint, max_seconds=10, interim_tokens=2, batch_frames=16)
    finished: list[str] = []

    async def speak_on(name: str) -> None:
        await anext(engine.open(False).push(pcm_of(noise(BLOCK + 40, seed=1))))
        finished.append(name)

    async def stop() -> None:
        await tokens_of(engine.open(False), pcm_of(noise(3 * TOKEN, seed=2)))
        finished.append("stopped")

    callers = [asyncio.create_task(speak_on("first"))]
    await until(lambda: gate.sizes, [1])
    for waiting, caller in enumerate((speak_on("second"), speak_on("third"), stop()), start=2):
        callers.append(asyncio.create_task(caller))
        await until(lambda: engine.pending, waiting)
    gate.open.set()
    await asyncio.gather(*callers)
    engine.close()
    assert finished == ["first", "stopped", "second", "third"]


async def test_a_caller_who_leaves_while_waiting_is_not_computed_for(
    engine: TokenizerEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(monkeypatch)
    sound = pcm_of(noise(TOKEN, seed=1))
    callers = [asyncio.create_task(tokens_of(engine.open(False), sound))]
    await until(lambda: gate.sizes, [1])
    callers += [asyncio.create_task(tokens_of(engine.open(False), sound)) for _ in range(2)]
    await until(lambda: engine.pending, 3)
    callers[1].cancel()
    await until(lambda: engine.pending, 2)
    gate.open.set()
    await asyncio.gather(*callers, return_exceptions=True)
    assert gate.sizes == [1, 1]
    assert engine.pending == 0


async def test_a_caller_who_leaves_during_the_batch_does_not_disturb_the_others(
    engine: TokenizerEngine, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(monkeypatch)
    sound = pcm_of(noise(3 * TOKEN, seed=1))
    callers = [asyncio.create_task(tokens_of(engine.open(False), sound)) for _ in range(3)]
    await until(lambda: gate.sizes, [3])
    callers[1].cancel()
    gate.open.set()
    first, gone, last = await asyncio.gather(*callers, return_exceptions=True)
    assert first == last == tokenise(checkpoint, [samples_of(sound)])[0]
    assert isinstance(gone, asyncio.CancelledError)
    assert engine.pending == 0


async def test_a_failed_batch_fails_its_callers_and_no_later_one(
    engine: TokenizerEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def out_of_memory(*_: object) -> list[Tokens]:
        raise RuntimeError("out of memory")

    sound = pcm_of(noise(TOKEN, seed=1))
    with monkeypatch.context() as patch:
        patch.setattr(engine_module, "encode", out_of_memory)
        results = await asyncio.gather(
            *(tokens_of(engine.open(False), sound) for _ in range(3)), return_exceptions=True
        )
    assert [str(result) for result in results] == ["out of memory"] * 3
    assert engine.pending == 0
    assert len(await tokens_of(engine.open(False), sound)) == 1


async def test_one_bad_utterance_in_a_batch_fails_alone(
    engine: TokenizerEngine, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = pcm_of(noise(2 * TOKEN, seed=1))
    streams = [engine.open(False) for _ in range(3)]
    bad_one = streams[1]._utterance
    sizes: list[int] = []

    def encode_well(checkpoint: Checkpoint, utterances: Sequence[Utterance]) -> list[Tokens]:
        sizes.append(len(utterances))
        if bad_one in utterances:
            raise RuntimeError("a bad one")
        return encode(checkpoint, utterances)

    monkeypatch.setattr(engine_module, "encode", encode_well)
    first, failure, last = await asyncio.gather(
        *(tokens_of(stream, good) for stream in streams), return_exceptions=True
    )
    assert str(failure) == "a bad one"
    assert first == last == tokenise(checkpoint, [samples_of(good)])[0]
    assert sizes == [3, 1, 1, 1]
    assert engine.pending == 0


async def test_closing_ends_the_batch_under_way_and_tells_those_who_wait(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(monkeypatch)
    engine = TokenizerEngine(checkpoint, max_seconds=10, interim_tokens=2)
    sound = pcm_of(noise(TOKEN, seed=1))
    callers = [asyncio.create_task(tokens_of(engine.open(False), sound))]
    await until(lambda: gate.sizes, [1])
    callers.append(asyncio.create_task(tokens_of(engine.open(False), sound)))
    await until(lambda: engine.pending, 2)
    gate.open.set()
    engine.close()
    served, refused = await asyncio.gather(*callers, return_exceptions=True)
    assert isinstance(served, list)
    assert len(served) == 1
    assert isinstance(refused, DrainingError)
    with pytest.raises(DrainingError):
        await tokens_of(engine.open(False), sound)
    assert not any(thread.name.startswith("tokenizer") and thread.is_alive() for thread in threading.enumerate())


async def test_sound_that_is_refused_changes_nothing(engine: TokenizerEngine) -> None:
    utterance = engine.open(False)
    for pcm, message in (
        (bytes(3), "pcm has 3 bytes; 16-bit samples need an even number"),
        (bytes(2 * 160_001), "too long: at most 10 s are allowed, which are 160000 samples"),
    ):
        with pytest.raises(InvalidInputError, match=message):
            await anext(utterance.push(pcm))
    assert utterance.samples == 0
    assert len(await tokens_of(utterance, bytes(2 * 160_000))) == 125


async def test_whole_mode_is_a_setting_of_the_engine(checkpoint: Checkpoint) -> None:
    engine = TokenizerEngine(checkpoint, max_seconds=10, interim_tokens=2, whole=True)
    utterance = engine.open(False)
    pcm = pcm_of(noise(3 * BLOCK, seed=3))
    assert [tokens async for tokens in utterance.push(pcm)] == []
    (tokens,) = [tokens async for tokens in utterance.finish()]
    assert tokens.ids == tokenise(checkpoint, [samples_of(pcm)])[0]
    assert engine.info.block_tokens == 50
    engine.close()
