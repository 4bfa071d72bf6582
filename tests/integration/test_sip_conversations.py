"""Conversations over the phone with the shipped models, judged by what the phone hears."""

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from loadtest.sip.wire import Caller, caller
from services.agent.ask_events import CallWatch
from services.agent.legs.sip import free_port
from services.agent.legs.sip_settings import TRANSPORTS
from tests.integration.certificates import certificate
from tests.integration.patience import greedy_personas, judged, until_right
from tests.integration.phone import RATE, Pcm, Phone, phone, speech_span
from tests.integration.sip_bots import hears_nothing
from tests.integration.stack import HOST, Agent, Stack, free_again
from training import corpus
from training.judge import contains_in_order
from training.voices import Speaker, say

HOURS = "what are your opening hours"
ADDRESS = "where are you located"
RECALL = ("my parcel number is four seven one nine", "yes that is right", "which number did i give you")
LONG_WORDS = ("open", "saturday", "sunday")  # of the answer to HOURS: a busy machine does not tear them


@functools.cache
def spoken(text: str, shift: float = 0.86) -> Pcm:
    """A caller's words, as they go into the phone."""
    wave = say(corpus.written(text), Speaker("hibari", shift=shift, speed=1.0), RATE)
    return np.asarray(np.pad(wave, RATE // 5) * 32767, dtype=np.int16)


def variants(text: str) -> list[Pcm]:
    """The same words in other voices."""
    return [spoken(text, shift) for shift in (0.86, 1.0, 1.1)]


async def heard(pcm: Pcm) -> str:
    return await judged((pcm / 32768).astype(np.float32), RATE)


async def understood(handset: Phone, question: str, *facts: str) -> str:
    """The answer to a question, with these facts in it."""

    async def ask() -> str:
        return await heard(await handset.ask(spoken(question)))

    return await until_right(ask, lambda text: all(contains_in_order(text, fact) for fact in facts))


@pytest.fixture(scope="module")
def agent(
    stack: Stack, tmp_path_factory: pytest.TempPathFactory, require_debian: Callable[..., None]
) -> Iterator[Agent]:
    """An agent with the default persona, greedy: the same words get the same answer. UDP and TLS, SRTP if wanted."""
    require_debian("baresip")
    personas = tmp_path_factory.mktemp("personas")
    tls = certificate(personas / "tls")
    port = free_port(HOST, TRANSPORTS)
    line = ["--sip-listen", f"{HOST}:{port}", "--sip-transports", "udp,tls", "--sip-srtp", "optional"]
    line += ["--sip-tls-certificate", str(tls.certificate), "--sip-tls-key", str(tls.key)]
    with stack.agent(2, greedy_personas(personas), True, *line) as running:
        running.sip_port = port
        yield running


@pytest.fixture(autouse=True)
async def lines_are_free(agent: Agent) -> None:
    """A phone that has hung up is one step ahead of the agent, which takes a new call for one too many meanwhile."""
    await free_again(agent)


@contextlib.asynccontextmanager
async def greeted(agent: Agent, directory: Path, name: str, codec: str = "PCMU") -> AsyncIterator[Phone]:
    """A phone in a call, after the greeting."""
    async with phone(directory / name, name, codec) as handset:
        await handset.call(agent.sip_uri)
        await handset.listen(pause_s=1.2)
        yield handset


@contextlib.asynccontextmanager
async def greeted_in_private(agent: Agent, directory: Path) -> AsyncIterator[Phone]:
    """The same over TLS with mandatory SRTP."""
    certificate(directory / "tls")
    lines = (f"sip_certificate {directory}/tls/both.pem",)
    async with phone(directory / "eve", "eve", account=";mediaenc=srtp-mand", config_lines=lines) as handset:
        await handset.call(f"sip:trunkline@{HOST}:{agent.sip_port + 1};transport=tls")
        assert handset.events_of("CALL_MENC")
        await handset.listen(pause_s=1.2)
        yield handset


async def test_the_greeting_is_understood(agent: Agent, tmp_path: Path) -> None:
    async with phone(tmp_path) as handset:
        await handset.call(agent.sip_uri)
        greeting = await handset.listen(pause_s=1.2)
    assert contains_in_order(await heard(greeting), "help")
    assert len(greeting) < 5 * RATE


async def test_two_phones_hold_separate_conversations(agent: Agent, tmp_path: Path) -> None:
    async with greeted(agent, tmp_path, "ann") as ann, greeted(agent, tmp_path, "bob") as bob:
        await asyncio.gather(understood(ann, HOURS, "nine to six"), understood(bob, ADDRESS, "street"))
        await asyncio.gather(understood(ann, ADDRESS, "street"), understood(bob, HOURS, "nine to six"))


async def test_conversations_are_held_over_a_law_and_in_private(agent: Agent, tmp_path: Path) -> None:
    async with greeted(agent, tmp_path, "ann", "PCMA") as ann, greeted_in_private(agent, tmp_path) as eve:
        await asyncio.gather(understood(ann, HOURS, *LONG_WORDS), understood(eve, HOURS, *LONG_WORDS))


async def test_conversations_are_held_over_wideband_codecs(agent: Agent, tmp_path: Path) -> None:
    async with greeted(agent, tmp_path, "ann", "G722") as ann, greeted(agent, tmp_path, "bob", "opus") as bob:
        await asyncio.gather(understood(ann, HOURS, *LONG_WORDS), understood(bob, HOURS, *LONG_WORDS))


async def test_what_is_being_said_waits_while_the_caller_holds(agent: Agent) -> None:
    """None of it goes into the void: what was not said before the hold is said after it."""
    async with caller(agent.sip_port) as wire:
        await wire.answered()
        before = await _hear(wire, lambda pcm: _speaking_for(pcm, 0.8))
        wire.invite("sendonly")
        await wire.response("INVITE", 200)
        wire.request("ACK")
        await hears_nothing(wire)
        await wire.listen(3.0)  # longer than the rest of the greeting
        wire.invite("sendrecv")
        await wire.response("INVITE", 200)
        wire.request("ACK")
        after = await _hear(wire, lambda pcm: 0 < speech_span(pcm)[1] < len(pcm) - RATE)
    assert not contains_in_order(await heard(before), "help")
    assert contains_in_order(await heard(after), "help")
    # Of the whole only what was on the wire at the hold is missing.
    assert 1.5 * RATE < _speech_length(before) + _speech_length(after) < 5 * RATE


async def _hear(wire: Caller, enough: Callable[[Pcm], bool]) -> Pcm:
    pcm = np.zeros(0, np.int16)
    async with asyncio.timeout(30):
        while not enough(pcm):
            pcm = np.concatenate([pcm, await wire.listen(0.2)])
    return pcm


def _speech_length(pcm: Pcm) -> int:
    start, end = speech_span(pcm)
    return end - start


async def test_a_number_is_remembered_over_three_turns(agent: Agent, tmp_path: Path) -> None:
    """The small model recalls four numbers of five; no model could recall one that the conversation has lost."""
    voices = iter(zip(*map(variants, RECALL), strict=True))

    async def recalled() -> list[str]:
        given, confirmed, asked = next(voices)
        async with greeted(agent, tmp_path, "ann") as ann:
            read_back = await ann.ask(given)
            await ann.ask(confirmed)
            return [await heard(answer) for answer in (read_back, await ann.ask(asked))]

    await until_right(recalled, lambda answers: all(contains_in_order(text, "4719") for text in answers))


@dataclass(frozen=True)
class _Interrupted:
    """How an answer was interrupted.

    Attributes:
        heard: by the judge, after the interruption.
        spoken: of the interrupted answer, in samples, and `whole` as it is undisturbed.
        late: samples from the interruption to silence.
    """

    heard: str
    spoken: int
    whole: int
    late: int
    barge_ins: int


async def test_who_interrupts_is_listened_to(agent: Agent, tmp_path: Path) -> None:
    """Were the interrupted answer gone on with, no try would be right."""

    async def interrupted() -> _Interrupted:
        watch = CallWatch(agent.calls, "ann")
        await watch.start()
        async with greeted(agent, tmp_path, "ann") as ann:
            whole = await ann.ask(spoken(HOURS))
            before = len(ann.heard())
            await ann.play(spoken(HOURS))
            async with asyncio.timeout(30):
                while not _speaking_for(ann.heard()[before:], 0.6):
                    await asyncio.sleep(0.05)
            interrupted_at = len(ann.heard())
            answer = await heard(await ann.ask(spoken(ADDRESS)))
            silence = interrupted_at + _until_silence(ann.heard()[interrupted_at:])
            start, cut_off = speech_span(ann.heard()[before:silence])
        story = await watch.finish(5.0)
        late = before + cut_off - interrupted_at
        return _Interrupted(answer, cut_off - start, len(whole), late, len(story.barge_ins))

    def understood_at_once(found: _Interrupted) -> bool:
        return contains_in_order(found.heard, "street") and not contains_in_order(found.heard, "nine to six")

    found = await until_right(interrupted, understood_at_once)
    # The first answer stopped well before its end, and soon after the caller spoke up.
    assert found.spoken < 0.8 * found.whole
    assert found.late < 1.5 * RATE
    assert found.barge_ins


def _speaking_for(pcm: Pcm, seconds: float) -> bool:
    start, end = speech_span(pcm)
    return end - start > seconds * RATE


def _until_silence(pcm: Pcm, pause_s: float = 0.3) -> int:
    """Samples until the first pause of this length."""
    frame = RATE // 50
    quiet = 0
    for index in range(0, len(pcm) - frame, frame):
        quiet = quiet + 1 if np.abs(pcm[index : index + frame].astype(np.int32)).max() < 200 else 0
        if quiet >= pause_s * 50:
            return index
    return len(pcm)
