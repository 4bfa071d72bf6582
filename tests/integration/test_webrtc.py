"""What callers get over WebRTC with the shipped models: right answers, a memory, a bot that can be interrupted."""

import asyncio
from collections.abc import Iterator

import pytest

from tests.integration.stack import Agent, Stack
from tests.integration.webrtc_caller import RATE, Caller, Waveform, calling, sample, spoken
from training.judge import normalise, transcribe

GREETING = "Hello, this is Mira at Harbour Parcel. How can I help you?"


@pytest.fixture(scope="module")
def agent(stack: Stack) -> Iterator[Agent]:
    with stack.agent(capacity=2) as agent:
        yield agent


async def ask(caller: Caller, question: Waveform) -> str:
    """Says a question, waits for the whole answer, returns its caption."""
    answers, ended = len(caller.captions()), len(caller.of_type("bot-stopped-speaking"))
    caller.microphone.say(question)
    await caller.until(lambda: len(caller.captions()) > answers, "a caption")
    await caller.until(lambda: len(caller.of_type("bot-stopped-speaking")) > ended, "the end of the answer")
    return caller.captions()[-1]


def in_order(text: str, facts: str) -> bool:
    """All facts are in the text, one after the other, whatever stands between."""
    words = iter(normalise(text))
    return all(fact in words for fact in normalise(facts))


async def heard(caller: Caller, since: int) -> list[str]:
    """Words that the judge hears in what came since a sample."""
    await asyncio.sleep(0.4)  # what is still in jitter buffers
    return normalise(await asyncio.to_thread(transcribe, caller.heard(since), RATE))


async def test_the_greeting_is_said(agent: Agent) -> None:
    async with calling(agent.page) as caller:
        await caller.bot_is_quiet()
        assert caller.captions() == [GREETING]
        words = await heard(caller, 0)
        assert {"how", "help", "you"} <= set(words), words


@pytest.mark.parametrize(
    ("question", "facts", "audible"),
    [
        ("opening-hours", "monday friday nine six saturday ten two sunday", "friday nine six saturday ten two sunday"),
        ("saturday-closing", "saturday two", "saturday two"),
        ("address", "twelve quay street", "twelve street"),
        ("price-medium", "seven", "seven"),
    ],
)
async def test_a_question_is_answered_from_the_persona(agent: Agent, question: str, facts: str, audible: str) -> None:
    async with calling(agent.page) as caller:
        await caller.bot_is_quiet()
        since = caller.heard_samples
        caption = await ask(caller, sample(question))
        assert in_order(caption, facts), caption
        words = await heard(caller, since)
        assert in_order(" ".join(words), audible), words


async def test_a_number_is_remembered_over_turns(agent: Agent) -> None:
    """The small model recalls four numbers of five; no model could recall one that the conversation has lost."""
    heard = []
    for _ in range(3):
        async with calling(agent.page) as caller:
            await caller.bot_is_quiet()
            first = await ask(caller, sample("parcel-number"))
            await ask(caller, sample("address"))
            heard.append((first, await ask(caller, spoken("which number did i give you"))))
        if all(in_order(answer, "four seven one nine") for answer in heard[-1]):
            return
    raise AssertionError(heard)


async def test_an_interruption_stops_the_bot_and_the_next_answer_is_to_the_new_question(agent: Agent) -> None:
    async with calling(agent.page) as caller:
        await caller.bot_is_quiet()
        caller.microphone.say(sample("opening-hours"))
        await caller.until(lambda: len(caller.latencies()) == 1, "the first answer begins")
        loud = len(caller.loud_at)
        await caller.until(lambda: len(caller.loud_at) > loud + 20, "the first answer is heard")
        caller.microphone.say(sample("address"))
        await caller.until(
            lambda: "barge-in" in [m["data"].get("type") for m in caller.of_type("server-message")], "it"
        )
        stopped = len(caller.loud_at)
        await caller.until(lambda: len(caller.latencies()) == 2, "the second answer begins")
        assert len(caller.loud_at) - stopped <= 25, "no more than what was on the wire"
        await caller.bot_is_quiet()
        assert in_order(caller.captions()[-1], "twelve quay street"), caller.captions()
