"""`python -m tests.acceptance.overload --capacity 2 --rounds 5`: three times as many callers as lines, over real SIP.

In each round all ring at once; those who are refused go on trying once a second while the others talk. Exactly as many
as there are lines must be answered, all others be told 503 with Retry-After, and whoever is answered must hear the
greeting and, after a question, the first sound of the answer within 1.5 times what it takes without the crowd.
"""

import asyncio
import contextlib
import os
import platform
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer

from loadtest.sip.talker import Talker, question
from loadtest.sip.wire import caller
from tests.integration import stack as stacks

REPORT = stacks.ROOT / "docs" / "benchmarks" / "overload.md"
TIMES = 3
GREETING_S, ANSWER_S = 60.0, 90.0
AGAIN_S = 1.0
NO_RESPONSE = 0
LIMIT = 1.5


@dataclass
class Round:
    """What callers met with.

    Attributes:
        statuses: of the first INVITEs.
        later: of further tries of those who were refused.
        retry_after: all that were told, seconds.
        greeting_s: from the answer to the first sound, of each who was answered.
        first_audio_s: from the end of the question to the first sound of the answer.
        silent: who was answered and heard no greeting.
        unanswered: questions to which no answer was heard.
    """

    statuses: Counter[int] = field(default_factory=Counter)
    later: Counter[int] = field(default_factory=Counter)
    retry_after: list[int] = field(default_factory=list)
    without_retry_after: int = 0
    greeting_s: list[float] = field(default_factory=list)
    first_audio_s: list[float] = field(default_factory=list)
    silent: int = 0
    unanswered: int = 0


@asynccontextmanager
async def talkers(port: int, count: int) -> AsyncIterator[list[Talker]]:
    """Callers with sockets of their own; they hang up at the end."""
    async with AsyncExitStack() as stack:
        made = [Talker(await stack.enter_async_context(caller(port))) for _ in range(count)]
        try:
            yield made
        finally:
            await asyncio.gather(*(talker.hang_up() for talker in made))


async def one_round(agent: stacks.Agent, offered: int, asked: list[bytes]) -> Round:
    """All call at once."""
    found = Round()
    async with talkers(agent.sip_port, offered) as everybody:
        finals = await asyncio.gather(*(talker.call() for talker in everybody))
        answered = []
        for talker, final in zip(everybody, finals, strict=True):
            found.statuses[final.status if final is not None else NO_RESPONSE] += 1
            if final is None:
                found.without_retry_after += 1
            elif final.status == 200:
                answered.append(talker)
            else:
                note(found, final.header("Retry-After"))
        crowd = asyncio.create_task(keep_trying(agent, offered - len(answered), found))
        await asyncio.gather(*(converse(talker, asked, found) for talker in answered))
        crowd.cancel()
        await asyncio.gather(crowd, return_exceptions=True)
    await stacks.free_again(agent)
    return found


def note(found: Round, retry_after: str) -> None:
    """A refusal's header."""
    if retry_after.isdigit() and int(retry_after) > 0:
        found.retry_after.append(int(retry_after))
    else:
        found.without_retry_after += 1


async def keep_trying(agent: stacks.Agent, count: int, found: Round) -> None:
    """Calls again and again for those who were refused."""
    while count:
        async with talkers(agent.sip_port, count) as again:
            for final in await asyncio.gather(*(talker.call() for talker in again)):
                found.later[final.status if final is not None else NO_RESPONSE] += 1
                if final is not None and final.status != 200:
                    note(found, final.header("Retry-After"))
        await asyncio.sleep(AGAIN_S)


async def converse(talker: Talker, asked: list[bytes], found: Round) -> None:
    """Hears the greeting, asks, and hears the answer begin."""
    try:
        found.greeting_s.append(await talker.hears(talker.answered_at, GREETING_S) - talker.answered_at)
    except TimeoutError:
        found.silent += 1
        return
    await talker.bot_is_quiet(GREETING_S)
    talker.say(asked)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(ANSWER_S):
            while talker.said_until == 0 or time.monotonic() - talker.said_until < 0.1:
                await asyncio.sleep(0.02)
    try:
        found.first_audio_s.append(await talker.hears(talker.said_until, ANSWER_S) - talker.said_until)
    except TimeoutError:
        found.unanswered += 1


async def measure(capacity: int, rounds: int, directory: Path) -> dict[int, list[Round]]:
    """Rounds by how many calls were offered in each: one alone, as many as there are lines, three times as many."""
    asked = question()
    found: dict[int, list[Round]] = {}
    with (
        stacks.running(directory, stacks.nano_weights(), capacity=max(4, capacity)) as stack,
        stack.agent(capacity=capacity, sip=True) as agent,
    ):
        await one_round(agent, 1, asked)  # nothing is cold from here on
        for number in range(rounds):
            for offered in dict.fromkeys((1, capacity, TIMES * capacity)):
                result = await one_round(agent, offered, asked)
                found.setdefault(offered, []).append(result)
                told = ", ".join(f"{status}: {count}" for status, count in sorted(result.statuses.items()))
                first = " ".join(f"{seconds:.2f}" for seconds in result.first_audio_s)
                print(f"round {number + 1}/{rounds}, {offered} offered: {told}; first audio {first} s", flush=True)
    return found


def median(values: Sequence[float]) -> float:
    """NaN for none."""
    return statistics.median(values) if values else float("nan")


def failures(found: dict[int, list[Round]], capacity: int) -> list[str]:
    """What does not hold."""
    problems = []
    for offered, rounds in found.items():
        for number, result in enumerate(rounds, 1):
            expected = Counter({200: min(offered, capacity), 503: max(0, offered - capacity)})
            if result.statuses != +expected:
                problems.append(f"round {number}, {offered} offered: answered {dict(result.statuses)}")
            if set(result.later) - {503}:
                problems.append(f"round {number}, {offered} offered: later tries met with {dict(result.later)}")
            if result.silent or result.unanswered or result.without_retry_after:
                problems.append(
                    f"round {number}, {offered} offered: {result.silent} heard no greeting, {result.unanswered} no "
                    f"answer, {result.without_retry_after} no Retry-After"
                )
    alone, crowded = (firsts(found[offered]) for offered in (1, TIMES * capacity))
    if not median(crowded) <= LIMIT * median(alone):
        problems.append(f"first audio {median(crowded):.2f} s is more than {LIMIT} x {median(alone):.2f} s")
    return problems


def firsts(rounds: list[Round]) -> list[float]:
    """First audio of all answers, seconds."""
    return [seconds for result in rounds for seconds in result.first_audio_s]


def report(found: dict[int, list[Round]], capacity: int, problems: list[str], circumstances: str) -> str:
    """The page."""
    lines = [
        "# Three times as many callers as lines",
        "",
        f"{capacity} lines, weights/nano, SIP and RTP over loopback. {circumstances} All of a round ring at once; "
        "those who are refused try again each second for as long as the others talk. First audio: from the last sound "
        "of the question to the first sound of the answer, as the phone hears it. Made by "
        "`python -m tests.acceptance.overload`. The three kinds of round take turns, so that other work of the machine "
        "meets them alike; on a busy one the times differ by more than the crowd makes.",
        "",
        "| offered at once | rounds | answered | 503 | of later tries: 503 | other | answered into silence "
        "| greeting after the answer, median | first audio, median (longest) | of n |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for offered, rounds in found.items():
        statuses = sum((result.statuses for result in rounds), Counter[int]())
        later = sum((result.later for result in rounds), Counter[int]())
        other = sum(statuses.values()) + sum(later.values()) - statuses[200] - statuses[503] - later[503]
        greeting = [seconds for result in rounds for seconds in result.greeting_s]
        first = firsts(rounds)
        cells = [offered, len(rounds), statuses[200], statuses[503], later[503], other]
        cells += [sum(result.silent for result in rounds)]
        lines.append(
            "| " + " | ".join(map(str, cells)) + f" | {1000 * median(greeting):.0f} ms | {1000 * median(first):.0f} ms "
            f"({1000 * max(first, default=0):.0f} ms) | {len(first)} |"
        )
    told = sorted(seconds for rounds in found.values() for result in rounds for seconds in result.retry_after)
    if told:
        lines += ["", f"Retry-After of {len(told)} refusals: {told[0]} to {told[-1]} s, median {median(told):.0f} s."]
    lines += ["", "All of it holds." if not problems else "What does not hold: " + "; ".join(problems) + "."]
    return "\n".join(lines) + "\n"


def main(
    capacity: Annotated[int, typer.Option(min=1, max=64, help="lines")] = 2,
    rounds: Annotated[int, typer.Option(min=1, help="of each kind")] = 5,
    out: Annotated[Path, typer.Option(help="the report")] = REPORT,
) -> None:
    """Makes the calls, writes the report, and fails when something does not hold."""
    began = time.time()
    with tempfile.TemporaryDirectory(prefix="trunkline-overload-") as directory:
        found = asyncio.run(measure(capacity, rounds, Path(directory)))
    problems = failures(found, capacity)
    circumstances = (
        f"{time.strftime('%d %B %Y', time.gmtime(began))}, {os.cpu_count()} cores ({platform.machine()}), "
        f"load {os.getloadavg()[1]:.1f} at the end, {time.time() - began:.0f} s."
    )
    out.write_text(report(found, capacity, problems, circumstances))
    print("\n".join(problems) or "all of it holds")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    typer.run(main)
