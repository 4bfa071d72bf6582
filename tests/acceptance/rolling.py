"""`python -m tests.acceptance.rolling --calls 12`: everything restarted, one process at a time, under live calls.

Two agents and two replicas of each model service. Callers call one agent or the other, as an edge would have them
(503: try the other), ask questions, hang up and call again. Meanwhile each process is told to stop (SIGTERM), and
started anew when it has gone. No call may be ended by anybody but its caller, and every question must be answered.
"""

import asyncio
import contextlib
import os
import platform
import random
import signal
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer

from loadtest.sip.talker import Talker, question
from loadtest.sip.wire import caller
from tests.integration import stack as stacks
from tests.integration.stack import HOST, ROOT, Process, free_port

REPORT = stacks.ROOT / "docs" / "benchmarks" / "rolling.md"
MODELS = ("tokenizer", "lm", "decoder")
REPLICAS = 2
TURNS = 2  # questions of a call
GREETING_S, ANSWER_S = 180.0, 240.0  # a machine that is too small for so many calls answers late, but answers
LEAVE_S = 900.0  # an agent stays until its last call is over
BETWEEN_S = 3.0  # restarts
BUSY_S = 1.0  # refused by both


class Part:
    """A process that is started again with the same command when it has left."""

    def __init__(self, name: str, command: Sequence[str], directory: Path) -> None:
        self.name = name
        self._command = list(command)
        self._directory = directory
        self._starts = 0
        self.start()

    def start(self) -> None:
        """Starts it, and waits until it serves."""
        self._starts += 1
        self.process = Process(self.name, self._command, self._directory / f"{self.name}-{self._starts}.log")
        self.process.wait_serving()

    def restart(self) -> float:
        """SIGTERM, and a new one when it has gone; how long it took to leave, seconds."""
        began = time.monotonic()
        os.kill(self.process.pid, signal.SIGTERM)
        status = self.process.wait(LEAVE_S)
        left = time.monotonic() - began
        if status != 0:
            raise RuntimeError(f"{self.name} ended with {status}: {self.process.tail()}")
        self.start()
        return left


@dataclass
class Tally:
    """What became of the calls.

    Attributes:
        cut: why, of those that somebody else than their caller ended.
        silent: questions (and greetings) to which nothing was heard.
        first_audio_s: from the end of each question to the first sound of the answer.
        refused: tries that both agents refused.
        live: calls now, and the least and most while processes were restarted.
    """

    calls: int = 0
    turns: int = 0
    cut: list[str] = field(default_factory=list)
    silent: list[str] = field(default_factory=list)
    first_audio_s: list[float] = field(default_factory=list)
    refused: int = 0
    live: int = 0
    restarting: str = "nothing"
    left_s: dict[str, float] = field(default_factory=dict)
    live_then: list[int] = field(default_factory=list)


@contextlib.contextmanager
def system(directory: Path, calls: int) -> Iterator[tuple[list[Part], list[int]]]:
    """Everything but Redis as parts, models first; and the agents' SIP ports."""
    weights = stacks.nano_weights()
    with stacks.running(directory, {}, dict.fromkeys(MODELS, "")) as stack, ExitStack() as cleanup:
        ports = {(name, number): free_port() for name in MODELS for number in range(REPLICAS)}
        parts: list[Part] = []

        def add(name: str, command: list[str]) -> None:
            part = Part(name, command, directory)
            parts.append(part)
            cleanup.callback(lambda: part.process.stop())

        for (name, number), port in ports.items():
            command = [sys.executable, "-m", f"services.{name}", "--listen", f"{HOST}:{port}"]
            command += ["--capacity", str(2 * calls), "--weights", str(weights[name]), "--threads", "1"]
            add(f"{name}-{number}", command)
        sip_ports = []
        for number in range(REPLICAS):
            sip_ports.append(free_port(socket.SOCK_DGRAM))
            command = [sys.executable, "-m", "services.agent", "--redis-url", stack.redis_url]
            for name in MODELS:
                replicas = ",".join(f"{HOST}:{ports[name, which]}" for which in range(REPLICAS))
                command += [f"--{name}", replicas]
            command += ["--sip-listen", f"{HOST}:{sip_ports[number]}", "--sip-workers", "1"]
            command += ["--http-listen", f"{HOST}:{free_port()}", "--calls-listen", f"{HOST}:{free_port()}"]
            command += ["--capacity", str(calls), "--personas", str(ROOT / "personas")]
            command += ["--agent-id", f"agent-{number}", "--drain-seconds", str(LEAVE_S)]
            add(f"agent-{number}", command)
        yield parts, sip_ports


async def keep_calling(number: int, ports: list[int], asked: list[bytes], tally: Tally, over: asyncio.Event) -> None:
    """One caller, call after call."""
    chance = random.Random(number)
    await asyncio.sleep(chance.uniform(0, 10))
    while not over.is_set():
        async with AsyncExitStack() as stack:
            for port in chance.sample(ports, len(ports)):
                talker = Talker(await stack.enter_async_context(caller(port)))
                final = await talker.call()
                if final is not None and final.status == 200:
                    break
            else:
                tally.refused += 1
                await asyncio.sleep(BUSY_S)
                continue
            tally.calls += 1
            tally.live += 1
            try:
                await converse(talker, asked, tally, chance)
                await talker.hang_up()
            except TimeoutError:
                tally.cut.append(f"{tally.restarting}: no answer to BYE")
            finally:
                tally.live -= 1


async def converse(talker: Talker, asked: list[bytes], tally: Tally, chance: random.Random) -> None:
    """A greeting and some questions."""
    try:
        await talker.hears(talker.answered_at, GREETING_S)
        for _ in range(TURNS):
            await talker.bot_is_quiet(GREETING_S)
            await asyncio.sleep(chance.uniform(0.0, 5.0))
            talker.said_until = 0.0
            talker.say(asked)
            while talker.said_until == 0 or time.monotonic() - talker.said_until < 0.1:
                await asyncio.sleep(0.02)
            heard = await talker.hears(talker.said_until, ANSWER_S)
            tally.turns += 1
            tally.first_audio_s.append(heard - talker.said_until)
        await talker.bot_is_quiet(GREETING_S)
    except TimeoutError:
        if not talker.ended:
            tally.silent.append(tally.restarting)
    if talker.ended:
        tally.cut.append(tally.restarting)


async def measure(calls: int, directory: Path) -> Tally:
    """Restarts everything under calls; prints as it goes."""
    tally, over, asked = Tally(), asyncio.Event(), question()
    with system(directory, calls) as (parts, ports):
        callers = [
            asyncio.create_task(keep_calling(number, ports, asked, tally, over), name=f"caller-{number}")
            for number in range(calls)
        ]
        until = time.monotonic() + 120
        while tally.live < calls and time.monotonic() < until:
            await asyncio.sleep(0.2)
        for part in parts:
            tally.restarting = part.name
            restarting = asyncio.create_task(asyncio.to_thread(part.restart))
            while not restarting.done():
                tally.live_then.append(tally.live)
                await asyncio.wait({restarting}, timeout=0.5)
            tally.left_s[part.name] = restarting.result()
            print(
                f"{part.name}: left after {tally.left_s[part.name]:.1f} s; {tally.live} live, {tally.calls} calls, "
                f"{tally.turns} turns, {len(tally.cut)} cut, {len(tally.silent)} unanswered, {tally.refused} refused",
                flush=True,
            )
            await asyncio.sleep(BETWEEN_S)
        tally.restarting = "nothing"
        over.set()
        await asyncio.gather(*callers)
    return tally


def report(tally: Tally, calls: int, circumstances: str) -> str:
    """The page."""
    first = sorted(tally.first_audio_s)
    live = sorted(tally.live_then)
    lines = [
        "# Everything restarted under live calls",
        "",
        f"{REPLICAS} agents, {REPLICAS} replicas of each model service, {calls} callers, weights/nano, SIP and RTP "
        f"over loopback. {circumstances} Each process in turn gets SIGTERM, and is started anew when it has left. Made "
        "by `python -m tests.acceptance.rolling`.",
        "",
        "| process | left after |",
        "|---|---|",
        *(f"| {name} | {seconds:.1f} s |" for name, seconds in tally.left_s.items()),
        "",
        f"Calls: {tally.calls}, {len(tally.cut)} of them cut"
        + (f" (while restarting {', '.join(tally.cut)})" if tally.cut else "")
        + f". Live during the restarts: median {statistics.median(live):.0f}, {live[0]} to {live[-1]}. "
        f"Turns answered: {tally.turns}; without an answer: {len(tally.silent)}"
        + (f" (while restarting {', '.join(tally.silent)})" if tally.silent else "")
        + f". Tries that both agents refused: {tally.refused}.",
        "",
        f"First audio after a question: median {1000 * statistics.median(first):.0f} ms, longest "
        f"{1000 * first[-1]:.0f} ms, of {len(first)}.",
    ]
    return "\n".join(lines) + "\n"


def main(
    calls: Annotated[int, typer.Option(min=1, max=64, help="callers at once")] = 12,
    out: Annotated[Path, typer.Option(help="the report")] = REPORT,
    logs: Annotated[Path | None, typer.Option(help="directory for the processes' logs")] = None,
) -> None:
    """Makes the calls, restarts everything, writes the report, and fails when a call was cut or a turn lost."""
    began = time.time()
    with tempfile.TemporaryDirectory(prefix="trunkline-rolling-") as directory:
        tally = asyncio.run(measure(calls, logs or Path(directory)))
    circumstances = (
        f"{time.strftime('%d %B %Y', time.gmtime(began))}, {os.cpu_count()} cores ({platform.machine()}), "
        f"load {os.getloadavg()[1]:.1f} at the end, {time.time() - began:.0f} s."
    )
    out.write_text(report(tally, calls, circumstances))
    print(f"{len(tally.cut)} calls cut, {len(tally.silent)} turns lost, of {tally.calls} calls and {tally.turns} turns")
    sys.exit(1 if tally.cut or tally.silent else 0)


if __name__ == "__main__":
    typer.run(main)
