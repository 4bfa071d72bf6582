"""Two replicas of each model service, one of which dies, hangs or drains: nothing is lost, repeated or missing."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from services.agent.conversation import Role
from services.agent.events import Caption
from services.agent.listening import Utterance
from services.agent.lm_session import LmSession, Sampling
from services.agent.models import Deadlines, ModelServices
from services.agent.replicas.discovery import Targets
from services.agent.replicas.failures import NoPlaceError
from services.agent.replicas.patience import Patience
from services.agent.replicas.places import Place, Reservation
from services.agent.replicas.pool import Pool
from services.agent.replicas.stages import TOKENIZER, Stage
from services.agent.speaking import Speaker
from tests.integration.cable import Cable, two_cables
from tests.integration.stack import HOST, Process, Stack
from tests.integration.test_agent_speech import RATE, SHORT, Line, left, until
from tests.unit.lm.checkpoint import write_checkpoint

GREEDY = Sampling(0.0, 1.0, 120, seed=5)
WARM = Sampling(0.9, 0.9, 120, seed=5)
ROUNDING = 4  # of 32768: what company in a batch changes of the decoder's samples
STAGES = ("tokenizer", "lm", "decoder")


@dataclass
class Replicas:
    """An agent's view: two replicas of each service."""

    models: ModelServices
    cables: dict[str, tuple[Cable, Cable]]

    def of(self, place: Place[Any]) -> Cable:
        """The replica where the call is now."""
        replica = place.replica
        assert replica is not None
        return next(cable for cable in self.cables[place.pool.stage.name] if cable.address == replica.address)


@pytest.fixture
async def replicas(tiny_stack: Stack) -> AsyncIterator[Replicas]:
    before = asyncio.all_tasks()
    async with contextlib.AsyncExitStack() as stack:
        cables = {}
        for stage in STAGES:
            cables[stage] = await stack.enter_async_context(two_cables(getattr(tiny_stack, stage)))
        addresses = {stage: ",".join(cable.address for cable in pair) for stage, pair in cables.items()}
        deadlines = Deadlines(late_s=8.0)  # nobody is left for being slow, unless a test says so
        models = ModelServices(addresses["tokenizer"], addresses["lm"], addresses["decoder"], deadlines)
        stack.push_async_callback(models.close)
        await models.connect(60.0, RATE)
        for pool in (models.tokenizer, models.lm, models.decoder):
            await until(lambda pool=pool: len(pool.serving) == 2, "both replicas serve")  # type: ignore[misc]
        yield Replicas(models, cables)
    await until(lambda: not left(before), f"tasks end: {left(before)}")


@pytest.fixture
def question(golden_dir: Path) -> bytes:
    audio = np.load(golden_dir / "tokenizer" / "golden.npz")["audio1"]
    return bytes((audio * 32767).astype("<i2").tobytes())


async def session_in(places: Reservation, prompt: str = "Talk.") -> LmSession:
    session = LmSession(places.lm, "a-call")
    await session.open()
    await session.appended(session.append_system(prompt))
    return session


async def answered(
    session: LmSession, sampling: Sampling, say: str, hook: Callable[[int], Awaitable[None]] | None = None
) -> tuple[list[int], str]:
    """Ids and text of an answer as its events tell them; `hook` is told how many ids there are."""
    ids: list[int] = []
    text = ""
    async for event in session.generate(sampling, say):
        ids += event.generated.tokens
        text += event.generated.text
        if hook is not None and event.HasField("generated"):
            await hook(len(ids))
    return ids, text


@pytest.mark.parametrize(
    ("sampling", "say"), [(GREEDY, ""), (WARM, ""), (GREEDY, "We are open from nine to five, every day but Sunday.")]
)
@pytest.mark.parametrize("after", [1, 20, 60])
async def test_an_answer_whose_lm_dies_is_the_one_it_would_have_been(
    replicas: Replicas, sampling: Sampling, say: str, after: int
) -> None:
    async with replicas.models.reserve("a-call") as places:
        session = await session_in(places)
        start = list(session.ids)
        undisturbed = await answered(session, sampling, say)
        assert len(undisturbed[0]) > 60
        await session.truncate(len(start))
        died = replicas.of(places.lm)
        cut_at: list[int] = []

        async def hook(count: int) -> None:
            if count >= after and not cut_at:
                cut_at.append(count)
                await died.cut()

        assert await answered(session, sampling, say, hook) == undisturbed
        assert cut_at[0] < len(undisturbed[0])
        assert session.ids == start + undisturbed[0]
        assert replicas.of(places.lm) is not died
        await session.close()


async def test_what_an_lm_that_dies_was_told_last_is_told_again(replicas: Replicas) -> None:
    async with replicas.models.reserve("a-call") as places:
        session = await session_in(places)
        start = list(session.ids)
        told = [session.append_speech(range(number, number + 7)) for number in range(0, 70, 7)]
        cutting = asyncio.create_task(replicas.of(places.lm).cut())
        told.append(session.end_of_speech())
        await cutting
        added = [await session.appended(future) for future in told]
        whole = [token for ids in added for token in ids]
        assert session.ids == start + whole
        head = len(added[0]) - 7
        assert whole[head : head + 70] == list(range(whole[head], whole[head] + 70)), "each piece once and in order"
        await session.truncate(len(start))
        assert session.ids == start
        await session.close()


@dataclass
class Heard:
    """A sink of an answer; `on_audio` is called with the bytes so far."""

    on_audio: Callable[[int], None] = lambda count: None
    audio: bytearray = field(default_factory=bytearray)
    done: list[int] = field(default_factory=list)

    def text(self, piece: str) -> None:
        """See `AnswerSink`."""

    def text_complete(self) -> None:
        """See `AnswerSink`."""

    def stage(self, name: str) -> None:
        """See `AnswerSink`."""

    def pcm(self, pcm: bytes, tokens_done: int) -> None:
        self.audio += pcm
        self.done.append(tokens_done)
        self.on_audio(len(self.audio))


async def spoken(replicas: Replicas, places: Reservation, session: LmSession, sink: Heard, say: str) -> list[int]:
    """Has an answer made; returns its ids."""
    length = len(session.ids)
    blocks = replicas.models.limits.block_sizes
    speaker = Speaker(places.decoder, blocks, session, sink, "a-call", "", seed=3)
    await speaker.run(GREEDY, say)
    await session.truncate(length)
    return speaker.answer.ids


async def test_speech_whose_decoder_dies_goes_on_at_the_very_sample(replicas: Replicas) -> None:
    say = "At nine."
    async with replicas.models.reserve("a-call") as places:
        session = await session_in(places)
        whole = Heard()
        ids = await spoken(replicas, places, session, whole, say)
        for share in (0.0, 0.3):  # in the first block, and in the second
            died = replicas.of(places.decoder)
            cuts: list[int] = []
            cutting: list[asyncio.Task[None]] = []

            def cut(count: int, share: float = share, died: Cable = died) -> None:
                if not cuts and count >= share * len(whole.audio):  # noqa: B023
                    cuts.append(count)  # noqa: B023
                    cutting.append(asyncio.create_task(died.cut()))  # noqa: B023

            disturbed = Heard(cut)
            assert await spoken(replicas, places, session, disturbed, say) == ids
            assert cuts[0] < 0.7 * len(whole.audio)
            await cutting[0]
            assert replicas.of(places.decoder) is not died
            assert_same_waveform(disturbed, whole)
            await died.plug()
            await until(lambda: len(replicas.models.decoder.serving) == 2, "it is back")
        await session.close()


def assert_same_waveform(one: Heard, other: Heard) -> None:
    assert len(one.audio) == len(other.audio) > 0
    first, second = (np.frombuffer(heard.audio, "<i2").astype(np.int32) for heard in (one, other))
    assert np.abs(first - second).max() <= ROUNDING
    assert np.abs(second).max() > 10 * ROUNDING, "there is something to compare"
    assert one.done == sorted(one.done)
    assert one.done[-1] == other.done[-1]


@pytest.mark.parametrize("share", [0.2, 0.8, 1.0])
async def test_words_whose_tokenizer_dies_are_heard_once(replicas: Replicas, question: bytes, share: float) -> None:
    async with replicas.models.reserve("a-call") as places:
        found: list[list[int]] = []
        for dies in (False, True):
            codes: list[int] = []
            audio = question + question
            utterance = Utterance(places.tokenizer, "a-call", replicas.models.limits, codes.extend)
            until_here = int(len(audio) * share) // 640 * 640
            for start in range(0, until_here, 640):
                utterance.feed(audio[start : start + 640])
            if share == 0.8:  # four seconds are due long before the end
                await until(lambda codes=codes: len(codes) > 0, "the first tokens")  # type: ignore[misc]
            if dies:
                await replicas.of(places.tokenizer).cut()
            for start in range(until_here, len(audio), 640):
                utterance.feed(audio[start : start + 640])
            assert await utterance.end() == codes
            found.append(codes)
        assert found[1] == found[0]
        assert len(found[0]) == pytest.approx(len(question) * 2 / 32_000 * 12.5, abs=2)


@pytest.mark.parametrize("how", ["cut", "freeze"])
async def test_a_turn_in_which_a_replica_goes_is_answered_as_any_other(
    replicas: Replicas, question: bytes, how: str
) -> None:
    """Calls with the same question: those in which a replica goes have the same record as that in which none does."""
    told: list[list[tuple[Role, tuple[int, ...], str]]] = []
    for stage in ("", *STAGES):
        line = Line(replicas.models, SHORT.model_copy(update={"greeting": "", "max_new_tokens": 45}))
        await line.speech.prepare()
        line.answer()
        line.begins(question)
        if stage:
            place = getattr(line.speech._call.places, stage)
            if how == "cut":
                await replicas.of(place).cut()
            else:
                place.pool.patience = Patience(1.0, 8.0)
                replicas.of(place).freeze()
        line.speech.caller_ended(0.0, 0.0)
        await until(lambda line=line: line.answers() == 1, "the turn was answered")  # type: ignore[misc]
        assert line.roles() == [Role.SYSTEM, Role.USER, Role.ASSISTANT]
        assert "".join(caption.text for caption in line.of(Caption)) == line.entries[-1].text
        told.append([(entry.role, entry.ids, entry.text) for entry in line.entries])
        await line.speech.close()
    assert told == [told[0]] * 4


async def test_a_call_has_its_place_on_every_stage_and_keeps_one_when_a_replica_dies(replicas: Replicas) -> None:
    before = {stage: await taken(replicas, stage) for stage in STAGES}
    async with replicas.models.reserve("a-call") as places:
        for stage in STAGES:
            assert await taken(replicas, stage) == before[stage] + 1
            place = getattr(places, stage)
            died = replicas.of(place)
            await died.cut()
            await until(lambda p=place, d=died: p.replica and replicas.of(p) is not d, "a place elsewhere")  # type: ignore[misc]
            await until_taken(replicas, stage, before[stage] + 1)
    for stage in STAGES:
        await until_taken(replicas, stage, before[stage])


async def taken(replicas: Replicas, stage: str) -> int:
    """Slots taken at the service behind both replicas."""
    kind: Stage[Any] = getattr(replicas.models, stage).stage
    async with grpc.aio.insecure_channel(replicas.cables[stage][0].target) as channel:
        return int((await kind.stub(channel).Info(kind.info)).active)


async def until_taken(replicas: Replicas, stage: str, count: int) -> None:
    async with asyncio.timeout(150):
        while await taken(replicas, stage) != count:
            await asyncio.sleep(0.02)


async def test_a_call_without_a_place_is_told_on_which_stage_and_why(replicas: Replicas) -> None:
    models = replicas.models
    async with contextlib.AsyncExitStack() as stack:
        for number in range(4):
            await stack.enter_async_context(models.reserve(f"call-{number}"))
        with pytest.raises(NoPlaceError) as full:
            await stack.enter_async_context(models.reserve("one too many"))
        assert {stage: error.code for stage, error in full.value.failures.items()} == dict.fromkeys(
            STAGES, grpc.StatusCode.RESOURCE_EXHAUSTED
        )
    for cable in replicas.cables["lm"]:
        await cable.cut()
    await until(lambda: not models.lm.serving, "no replica serves")
    assert await models.reachable() == "lm"
    with pytest.raises(NoPlaceError) as away:
        async with models.reserve("another"):
            pass
    assert {stage: error.code for stage, error in away.value.failures.items()} == {"lm": grpc.StatusCode.UNAVAILABLE}
    await replicas.cables["lm"][0].plug()
    await until(lambda: bool(models.lm.serving), "it is found again")
    async with models.reserve("another") as places:
        assert replicas.of(places.lm) is replicas.cables["lm"][0]


async def test_replicas_come_and_go_with_the_records_of_a_name(tiny_stack: Stack) -> None:
    first = Cable(tiny_stack.tokenizer, "127.0.0.1")
    await first.plug()
    second = Cable(tiny_stack.tokenizer, "127.0.0.2", first.port)
    await second.plug()
    records = ["127.0.0.1"]

    async def lookup(name: str) -> list[str]:
        assert name == "pods"
        return list(records)

    pool = Pool(TOKENIZER, Targets.parse(f"dns:pods:{first.port}"), Deadlines(), lookup=lookup, resolve_s=0.05)
    pool.start()
    try:
        await until(lambda: [replica.address for replica in pool.serving] == [first.address], "the first")
        records.append("127.0.0.2")
        await until(lambda: len(pool.serving) == 2, "the second")
        records.remove("127.0.0.1")
        await first.cut()
        await until(lambda: [replica.address for replica in pool.replicas] == [second.address], "the first is gone")
    finally:
        await pool.close()
        await first.cut()
        await second.cut()


@pytest.fixture
async def another_lm(tmp_path: Path, golden_dir: Path) -> AsyncIterator[Process]:
    """A replica of the language model in a process of its own."""
    weights = write_checkpoint(tmp_path / "lm-weights", golden_dir, context_length=1024)
    command = [sys.executable, "-m", "services.lm", "--listen", f"{HOST}:0", "--capacity", "4"]
    process = Process("lm", [*command, "--weights", str(weights), "--threads", "1"], tmp_path / "lm.log")
    try:
        await asyncio.to_thread(process.wait_serving)
        yield process
    finally:
        process.kill()


async def test_a_replica_that_drains_ends_what_it_does_and_hands_the_rest_over(
    tiny_stack: Stack, another_lm: Process, question: bytes
) -> None:
    address = f"{HOST}:{another_lm.port}"
    lms = f"{tiny_stack.lm},{address}"
    models = ModelServices(tiny_stack.tokenizer, lms, tiny_stack.decoder, Deadlines(late_s=8.0))
    await models.connect(60.0, RATE)
    await until(lambda: len(models.lm.serving) == 2, "both replicas serve")
    talking, idle = (
        Line(models, SHORT.model_copy(update={"greeting": "", "max_new_tokens": 90}), call_id)
        for call_id in those_that_go_to(address, models, 2)
    )
    for line in (talking, idle):
        await line.speech.prepare()
        line.answer()
        assert where(line) == address
    talking.says(question)
    await until(lambda: bool(talking.of(Caption)), "it answers")
    another_lm.terminate()
    await until(lambda: where(idle) == where(talking) == tiny_stack.lm, "both have a place elsewhere")
    await until(lambda: talking.answers() == 1, "the answer was given to its end")
    assert await asyncio.to_thread(another_lm.wait, 60) == 0, "it leaves by itself, once nobody needs it"
    for line in (talking, idle):
        line.says(question)
        await until(lambda line=line: line.roles()[-1] is Role.ASSISTANT, "the next turn is answered")  # type: ignore[misc]
        await line.speech.close()
    await models.close()


def those_that_go_to(address: str, models: ModelServices, count: int) -> list[str]:
    names = (f"call-{number}" for number in range(1000))
    return [name for name in names if models.lm.in_order(name)[0].address == address][:count]


def where(line: Line) -> str:
    replica = line.speech._call.places.lm.replica
    return replica.address if replica is not None else ""
