"""One call's speech over the real services (with random weights): what is recorded, played, interrupted and rebuilt."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from random import Random
from typing import Any

import grpc
import numpy as np
import pytest

from services.agent.conversation import Entry, Role, replay
from services.agent.disclosure import DisclosurePolicy
from services.agent.events import BargeIn, Caption, Event, TurnTimes
from services.agent.lm_session import LmSession, Sampling
from services.agent.models import Deadlines, ModelError, ModelServices
from services.agent.personas import Persona
from services.agent.player import Media
from services.agent.speech import Speech
from services.agent.waterfall import STAGES
from tests.integration.stack import Stack, running
from tests.unit.lm.checkpoint import CODEBOOK
from trunkline.v1 import decoder_pb2

RATE = 16_000
PACKET_BYTES = RATE // 50 * 2
SHORT = Persona(name="short", prompt="Be brief.", greeting="Hello.", temperature=0.0, max_new_tokens=60)
LONG = Persona(name="long", prompt="Talk on.", greeting="Hello.", temperature=0.0, max_new_tokens=400)


class Line:
    """A `Speech` with its packets, entries and events caught."""

    def __init__(self, models: ModelServices, persona: Persona, call_id: str = "test-call") -> None:
        self.entries: list[Entry] = []
        self.events: list[Event] = []
        self.packets: list[bytes] = []
        self.speech = Speech(call_id, persona, models, self.entries.append, self.events.append)

    async def send(self, packet: bytes) -> None:
        self.packets.append(packet)

    def answer(self) -> None:
        self.speech.connect(Media(RATE, self.send))

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    def roles(self) -> list[Role]:
        return [entry.role for entry in self.entries]

    def says(self, audio: bytes) -> None:
        """A whole turn, at once."""
        self.begins(audio)
        self.speech.caller_ended(time.monotonic() - 0.2, time.monotonic())

    def begins(self, audio: bytes) -> None:
        """A turn that is not over."""
        self.speech.caller_started(audio[:PACKET_BYTES])
        self.goes_on(audio[PACKET_BYTES:])

    def goes_on(self, audio: bytes) -> None:
        for start in range(0, len(audio), PACKET_BYTES):
            self.speech.caller_audio(audio[start : start + PACKET_BYTES])

    def answers(self) -> int:
        return self.roles().count(Role.ASSISTANT)


async def until(condition: Callable[[], bool], what: str, seconds: float = 150.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        await asyncio.sleep(0.01)


@pytest.fixture
async def models(tiny_stack: Stack) -> AsyncIterator[ModelServices]:
    services = ModelServices(tiny_stack.tokenizer, tiny_stack.lm, tiny_stack.decoder)
    await services.connect(10.0, RATE)
    yield services
    await services.close()


@pytest.fixture
def question(golden_dir: Path) -> bytes:
    """2.7 s of audio with known tokens."""
    audio = np.load(golden_dir / "tokenizer" / "golden.npz")["audio1"]
    return bytes((audio * 32767).astype("<i2").tobytes())


@pytest.fixture
async def line(models: ModelServices) -> AsyncIterator[Line]:
    before = asyncio.all_tasks()
    line = Line(models, SHORT)
    yield line
    await line.speech.close()
    await until(lambda: not left(before), f"tasks end: {left(before)}", 5.0)


def left(before: set[asyncio.Task[Any]]) -> set[str]:
    current = {asyncio.current_task()}
    return {f"{task.get_name()}: {task.get_coro()}" for task in asyncio.all_tasks() - before - current}


async def greedy(models: ModelServices, ids: list[int], count: int) -> list[int]:
    """What a new session continues with after these ids."""
    async with models.reserve("rebuilt") as places:
        session = LmSession(places.lm, "rebuilt")
        await session.open(ids)
        async for _ in session.generate(Sampling(0.0, 1.0, count, seed=0)):
            pass
        await session.close()
        return session.ids[len(ids) :]


async def being_synthesised(models: ModelServices) -> int:
    """Streams at the decoder now."""
    info = await models.decoder.serving[0].stub.Info(decoder_pb2.SpeechDecoderInfoRequest())
    return info.active - info.reserved


async def test_the_greeting_is_ready_before_the_answer_and_played_after_it(line: Line) -> None:
    await line.speech.prepare()
    assert line.roles() == [Role.SYSTEM]
    assert line.packets == []
    line.answer()
    await until(lambda: line.answers() == 1, "the greeting was played")
    assert line.entries[1].text == "Hello."
    assert not line.entries[1].interrupted
    assert "".join(caption.text for caption in line.of(Caption)) == "Hello."
    assert line.of(Caption)[-1].is_final
    assert {len(packet) for packet in line.packets} == {PACKET_BYTES}
    assert np.abs(np.frombuffer(b"".join(line.packets), "<i2")).max() > 0


async def test_a_turn_is_recorded_with_its_exact_tokens_and_timed(
    line: Line, models: ModelServices, question: bytes, golden_dir: Path
) -> None:
    await line.speech.prepare()
    line.answer()
    await until(lambda: line.answers() == 1, "the greeting was played")
    line.says(question)
    await until(lambda: line.answers() == 2, "the turn was answered")
    info = models.lm.serving[0].info
    codes = [i - info.speech_token_offset for i in line.entries[2].ids]
    spoken = [code for code in codes if 0 <= code < CODEBOOK]
    expected = np.load(golden_dir / "tokenizer" / "golden.npz")["ids1"].reshape(-1)
    assert len(spoken) == len(expected)
    assert np.mean(np.array(spoken) == expected) > 0.9, "16-bit PCM may move a token across a code's border, not more"
    (times,) = line.of(TurnTimes)
    assert list(times.stages) == list(STAGES)
    assert sorted(times.stages.values()) == list(times.stages.values())


async def test_a_session_rebuilt_from_the_records_continues_in_the_same_way(
    line: Line, models: ModelServices, question: bytes
) -> None:
    await line.speech.prepare()
    line.answer()
    await until(lambda: line.answers() == 1, "the greeting was played")
    for number in (2, 3):
        line.says(question[: -number * 3200])
        await until(lambda number=number: line.answers() == number, f"answer {number}")  # type: ignore[misc]
    answer = line.entries[-1]
    assert answer.role is Role.ASSISTANT
    assert await greedy(models, replay(line.entries[:-1]), SHORT.max_new_tokens) == list(answer.ids)


async def test_barge_in_stops_playback_and_keeps_what_was_heard(models: ModelServices, question: bytes) -> None:
    line = Line(models, LONG)
    await line.speech.prepare()
    line.answer()
    await until(lambda: len(line.packets) > 60, "a second of greeting")
    line.speech.interrupt()
    at_stop = len(line.packets)
    line.says(question)
    (barge_in,) = line.of(BargeIn)
    cut = line.entries[1]
    assert cut.interrupted
    seconds = (at_stop - 3) * 0.02
    assert barge_in.tokens_heard == pytest.approx(seconds * 12.5, abs=3)
    await until(lambda: Role.USER in line.roles(), "the turn was heard")
    assert line.entries[1].length == len(replay(line.entries[:2])), "the record ends with the last token heard"
    after = len(line.packets)
    assert after <= at_stop + 1, "nothing of the interrupted answer follows"
    await until(lambda: len(line.packets) > after + 20 or line.answers() == 2, "the next answer")
    line.speech.interrupt()
    heard = list(line.entries[-1].ids)
    continuation = await greedy(models, replay(line.entries[:-1]), LONG.max_new_tokens)
    assert continuation[: len(heard)] == heard, "the cut session and a rebuilt one agree"
    await line.speech.close()


async def test_ten_barge_ins_at_random_moments_leave_no_sound_and_no_work(
    models: ModelServices, question: bytes
) -> None:
    random = Random(7)
    line = Line(models, LONG.model_copy(update={"greeting": ""}))
    await line.speech.prepare()
    line.answer()
    while (number := len(line.of(BargeIn)) + 1) <= 10:
        before = len(line.packets)
        line.says(question[: random.randrange(len(question) // 4, len(question) // 2) // 2 * 2])
        enough = before + random.randrange(12, 50)
        await until(lambda e=enough: len(line.packets) >= e or line.speech.floor_is_free, "it is heard")  # type: ignore[misc]
        if len(line.packets) < enough:
            continue  # random weights may have little or nothing to say
        assert line.speech.interrupt()
        sent = len(line.packets)
        barge_in = line.of(BargeIn)[-1]
        assert len(line.of(BargeIn)) == number
        assert barge_in.tokens_heard * 0.08 <= (sent - before) * 0.02, "no more was heard than was sent"
        line.speech.caller_started(bytes(PACKET_BYTES))
        line.speech.caller_dropped()
        async with asyncio.timeout(60):
            while await being_synthesised(models):
                await asyncio.sleep(0.01)
        await until(lambda: line.speech.floor_is_free, "all that worked for the answer has ended")
        assert len(line.packets) <= sent + 1, "nothing of the interrupted answer follows"
    heard = [entry for entry in line.entries if entry.interrupted]
    assert len(heard) == 10
    assert line.speech.conversation.ids == replay(line.entries)
    last = heard[-1]
    rest = line.entries[: line.entries.index(last)]
    continuation = await greedy(models, replay(rest), len(last.ids))
    assert continuation[: len(last.ids)] == list(last.ids)
    await line.speech.close()


async def test_who_goes_on_before_the_answer_is_heard_has_one_turn(
    line: Line, models: ModelServices, question: bytes
) -> None:
    await line.speech.prepare()
    line.answer()
    await until(lambda: line.answers() == 1, "the greeting was played")
    half = len(question) // 4 * 2
    line.says(question[:half])
    await until(lambda: Role.USER in line.roles(), "the first half was heard")
    line.says(question[half:])
    await until(lambda: line.answers() == 2, "the whole turn was answered")
    assert line.roles()[2:] == [Role.USER, Role.REWIND, Role.USER, Role.ASSISTANT]
    first, _, whole, _ = line.entries[2:]
    assert len(whole.ids) > 1.7 * len(first.ids)
    assert not line.of(BargeIn), "there was nothing to interrupt"


async def test_a_dropped_turn_leaves_no_trace(line: Line, models: ModelServices, question: bytes) -> None:
    await line.speech.prepare()
    line.answer()
    await until(lambda: line.answers() == 1, "the greeting was played")
    line.speech.caller_started(question)
    line.speech.caller_dropped()
    line.says(question)
    await until(lambda: line.answers() == 2, "the real turn was answered")
    assert line.roles() == [Role.SYSTEM, Role.ASSISTANT, Role.USER, Role.ASSISTANT]
    answer = line.entries[-1]
    assert await greedy(models, replay(line.entries[:-1]), SHORT.max_new_tokens) == list(answer.ids)


async def test_an_answer_begun_in_a_pause_is_told_to_nobody_before_the_turn_is_over(
    models: ModelServices, question: bytes
) -> None:
    line = Line(models, SHORT.model_copy(update={"greeting": ""}))
    await line.speech.prepare()
    line.answer()
    line.begins(question)
    line.speech.caller_paused()
    await asyncio.wait_for(line.speech.first_pcm.wait(), 60)
    await asyncio.sleep(0.1)
    assert line.roles() == [Role.SYSTEM]
    assert line.packets == []
    assert not line.of(Caption)
    line.speech.caller_ended(time.monotonic() - 0.3, time.monotonic())
    assert line.roles() == [Role.SYSTEM, Role.USER], "the turn is known at once"
    await until(lambda: line.answers() == 1, "the turn was answered")
    (times,) = line.of(TurnTimes)
    assert times.stages["first_pcm"] < times.stages["turn_decided"] <= times.stages["first_packet"]
    answer = line.entries[-1]
    assert "".join(caption.text for caption in line.of(Caption)) == answer.text
    assert await greedy(models, replay(line.entries[:-1]), SHORT.max_new_tokens) == list(answer.ids)
    await line.speech.close()


async def test_an_answer_begun_in_a_pause_is_forgotten_when_the_caller_goes_on(
    models: ModelServices, question: bytes
) -> None:
    """Pauses at several places, some just begun and some with an answer made: the turn is that without any pause."""
    persona = SHORT.model_copy(update={"greeting": ""})
    told: list[list[Entry]] = []
    for pauses in ((), (0.2, 0.35, 0.5, 0.8)):
        line = Line(models, persona)
        await line.speech.prepare()
        line.answer()
        line.begins(question[:PACKET_BYTES])
        said = PACKET_BYTES
        for number, share in enumerate(pauses):
            until_here = int(len(question) * share) // PACKET_BYTES * PACKET_BYTES
            line.goes_on(question[said:until_here])
            said = until_here
            line.speech.first_pcm.clear()
            line.speech.caller_paused()
            if number % 2:
                await asyncio.wait_for(line.speech.first_pcm.wait(), 60)
            line.speech.caller_resumed()
        line.goes_on(question[said:])
        line.speech.caller_ended(time.monotonic(), time.monotonic())
        await until(lambda line=line: line.answers() == 1, "the turn was answered")  # type: ignore[misc]
        told.append(line.entries)
        assert "".join(caption.text for caption in line.of(Caption)) == line.entries[-1].text
        assert not line.of(BargeIn)
        assert len(line.of(TurnTimes)) == 1
        await line.speech.close()
    without, with_pauses = told
    assert [(entry.role, entry.ids) for entry in with_pauses] == [(entry.role, entry.ids) for entry in without]
    async with asyncio.timeout(5):
        while await being_synthesised(models):
            await asyncio.sleep(0.02)


async def test_a_turn_dropped_in_a_pause_leaves_no_trace(line: Line, question: bytes) -> None:
    await line.speech.prepare()
    line.answer()
    await until(lambda: line.answers() == 1, "the greeting was played")
    line.begins(question)
    line.speech.caller_paused()
    line.speech.caller_dropped()
    line.says(question)
    await until(lambda: line.answers() == 2, "the real turn was answered")
    assert line.roles() == [Role.SYSTEM, Role.ASSISTANT, Role.USER, Role.ASSISTANT]


async def test_announcements_wait_for_the_bot_to_finish(line: Line, question: bytes) -> None:
    await line.speech.prepare()
    line.answer()
    line.speech.say("First.")
    line.speech.say("Second.")
    await until(lambda: line.answers() == 3, "all was said")
    assert [entry.text for entry in line.entries[1:]] == ["Hello.", "First.", "Second."]
    line.says(question)
    line.speech.say("Third.")
    await until(lambda: line.answers() == 5, "the answer, then the announcement")
    assert line.entries[-1].text == "Third."


class Impatient(Line):
    """Speaks as soon as it hears something, in the very moment."""

    def __init__(self, models: ModelServices, persona: Persona, words: bytes) -> None:
        super().__init__(models, persona)
        self._words = words

    async def send(self, packet: bytes) -> None:
        await super().send(packet)
        if len(self.packets) == 2:
            self.says(self._words)


def disclosing(may_be_interrupted: bool) -> Persona:
    policy = DisclosurePolicy(text="I am a computer.", barge_in=may_be_interrupted)
    return SHORT.model_copy(update={"disclosure": policy})


async def test_who_speaks_while_they_must_listen_is_answered_afterwards(models: ModelServices, question: bytes) -> None:
    line = Impatient(models, disclosing(may_be_interrupted=False), question)
    await line.speech.prepare()
    line.answer()
    await until(lambda: line.answers() == 2, "the disclosure, then the answer")
    assert line.roles() == [Role.SYSTEM, Role.ASSISTANT, Role.USER, Role.ASSISTANT], "no greeting in between"
    assert (line.entries[1].text, line.entries[1].interrupted) == ("I am a computer.", False)
    assert not line.of(BargeIn)
    assert line.speech.may_be_interrupted
    await line.speech.close()


async def test_a_noise_while_they_must_listen_costs_nothing(models: ModelServices) -> None:
    line = Line(models, disclosing(may_be_interrupted=False))
    await line.speech.prepare()
    assert not line.speech.interrupt()
    line.speech.caller_started(bytes(PACKET_BYTES))
    line.speech.caller_dropped()
    line.answer()
    await until(lambda: line.answers() == 2, "the disclosure, then the greeting")
    assert [entry.text for entry in line.entries[1:]] == ["I am a computer.", "Hello."]
    await line.speech.close()


async def test_a_disclosure_may_be_interrupted_when_the_persona_says_so(models: ModelServices, question: bytes) -> None:
    line = Impatient(models, disclosing(may_be_interrupted=True), question)
    await line.speech.prepare()
    line.answer()
    await until(lambda: Role.USER in line.roles(), "the turn was heard")
    assert len(line.of(BargeIn)) == 1
    assert "Hello." not in [entry.text for entry in line.entries]
    await line.speech.close()


async def test_what_was_made_for_a_person_is_not_said_to_a_machine(models: ModelServices) -> None:
    line = Line(models, disclosing(may_be_interrupted=False))
    await line.speech.prepare()
    line.speech.drop_opening()
    line.speech.say("Call back.")
    line.answer()
    await until(lambda: line.answers() == 1, "the text was said")
    assert [entry.text for entry in line.entries[1:]] == ["Call back."]
    await line.speech.close()


async def test_a_call_that_goes_on_discloses_only_what_was_not_heard(models: ModelServices) -> None:
    persona = disclosing(may_be_interrupted=False)
    first = Line(models, persona, "first")
    await first.speech.prepare()
    first.answer()
    await until(lambda: first.answers() == 2, "the disclosure and the greeting")
    await first.speech.close()
    again = Speech("again", persona, models, lambda _: None, lambda _: None, past=first.entries)
    cut = Speech("cut", persona, models, lambda _: None, lambda _: None, past=first.entries[:1])
    assert (again.disclosure, cut.disclosure) == ("", "I am a computer.")


async def test_a_full_context_loses_the_oldest_turns_only(models: ModelServices, question: bytes) -> None:
    persona = SHORT.model_copy(update={"greeting": "", "max_new_tokens": 250})
    line = Line(models, persona)
    await line.speech.prepare()
    line.answer()
    for number in range(1, 9):
        line.says(question)
        await until(lambda number=number: line.answers() == number, f"answer {number}")  # type: ignore[misc]
        if Role.RESET in line.roles():
            break
    reset = next(entry for entry in line.entries if entry.role is Role.RESET)
    system = line.entries[0]
    assert reset.ids[: len(system.ids)] == system.ids
    assert reset.length <= models.limits.context_length * 3 // 4
    answer = line.entries[-1]
    continuation = await greedy(models, replay(line.entries[:-1]), persona.max_new_tokens)
    assert continuation[: len(answer.ids)] == list(answer.ids)
    await line.speech.close()


async def test_no_room_at_the_lm_fails_before_the_answer(models: ModelServices) -> None:
    places = [models.reserve(f"other-{i}") for i in range(4)]
    sessions = [LmSession(place.lm, f"other-{i}") for i, place in enumerate(places)]
    for session in sessions:
        await session.open()
    line = Line(models, SHORT)
    with pytest.raises(ModelError) as error:
        await line.speech.prepare()
    assert error.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    for session in sessions:
        await session.close()
    for place in places:
        await place.close()
    await line.speech.close()


async def test_services_that_die_end_the_call_in_bounded_time(
    tmp_path: Path, golden_dir: Path, tiny_stack: Stack, question: bytes
) -> None:
    others = {"tokenizer": tiny_stack.tokenizer, "lm": tiny_stack.lm}
    with running(tmp_path, {"decoder": golden_dir / "decoder"}, others) as own:
        models = ModelServices(own.tokenizer, own.lm, own.decoder, Deadlines(silence_s=10.0))
        await models.connect(10.0, RATE)
        line = Line(models, LONG)
        await line.speech.prepare()
        line.answer()
        await until(lambda: len(line.packets) > 10, "the greeting began")
        own.processes["decoder"].kill()
        line.says(question)
        assert await asyncio.wait_for(asyncio.shield(line.speech.failed), 120) == "speech services failed"
        assert line.roles()[-1] is Role.USER, "what the caller said is kept"
        await line.speech.close()
        await models.close()
