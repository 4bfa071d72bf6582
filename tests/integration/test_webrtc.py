"""What callers get over WebRTC with the shipped models: right answers, a memory, a bot that can be interrupted."""

import asyncio
from collections.abc import Iterator

import pytest

from tests.integration.patience import greedy_personas, judged, until_right
from tests.integration.stack import Agent, Stack
from tests.integration.webrtc_caller import RATE, Caller, Waveform, calling, sample, spoken
from training.judge import normalise

GREETING = "Hello, this is Mira at Harbour Parcel. How can I help you?"


@pytest.fixture(scope="module")
def agent(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    with stack.agent(capacity=2, personas=greedy_personas(tmp_path_factory.mktemp("personas"))) as agent:
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
    return normalise(await judged(caller.heard(since), RATE))


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

        async def answer() -> tuple[str, str]:
            since = caller.heard_samples
            return await ask(caller, sample(question)), " ".join(await heard(caller, since))

        await until_right(answer, lambda told: in_order(told[0], facts) and in_order(told[1], audible))


async def test_a_number_is_remembered_over_turns(agent: Agent) -> None:
    """The small model recalls four numbers of five; no model could recall one that the conversation has lost."""
    numbers = iter(("four seven one nine", "eight two five three", "six one nine four"))

    async def recalled() -> tuple[str, str, str]:
        number = next(numbers)
        async with calling(agent.page) as caller:
            await caller.bot_is_quiet()
            first = await ask(caller, spoken(f"my parcel number is {number}"))
            await ask(caller, sample("address"))
            return number, first, await ask(caller, spoken("which number did i give you"))

    await until_right(recalled, lambda told: in_order(told[1], told[0]) and in_order(told[2], told[0]))


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
