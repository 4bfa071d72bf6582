"""`python -m tests.acceptance.turn_taking`: barge-ins, echo and the gain of beginning early, on real calls.

A phone on the RTP clock calls an agent over SIP with weights/nano; the judge is Whisper tiny.en. Writes
docs/benchmarks/turn-taking.json; what it means stands in docs/turns.md.
"""

import asyncio
import functools
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from random import Random
from typing import Annotated, Any

import numpy as np
import typer
import yaml

from loadtest.sip.wire import RATE, Pcm
from services.agent.legs.base import INPUT_RATE
from tests.integration import stack as stacks
from tests.integration.interrupting import Interruption, on_the_line, synthesised
from tests.integration.reciting import reciting
from tests.integration.stack import Agent, Stack
from tests.integration.wire_phone import wire_phone
from training.judge import normalise, transcribe
from training.voices import Speaker, say

OUT = stacks.ROOT / "docs" / "benchmarks" / "turn-taking.json"
HOURS = "what are your opening hours"
QUESTIONS = (HOURS, "where are you located", "how much is a small parcel", "how much is a large parcel")
ANSWERS = (
    "We are open Monday to Friday from nine to six, Saturday from ten to two, closed on Sunday.",
    "Our address is twelve Quay Street.",
    "A small parcel costs four euros, a medium one seven, a large one eleven.",
)
ECHO = (10 ** (-12 / 20), 0.08)

Report = dict[str, Any]
app = typer.Typer(add_completion=False)


@functools.cache
def spoken(text: str) -> Pcm:
    """A caller's words for the phone, with nothing around them."""
    wave = say(text, Speaker("hibari", shift=0.86), RATE)
    loud = np.flatnonzero(np.abs(wave) > 0.01)
    return np.asarray(wave[loud[0] : loud[-1] + 1] * 32767, dtype=np.int16)


def heard(pcm: Pcm) -> str:
    """What the judge hears on the phone."""
    return transcribe((pcm / 32768).astype(np.float32), RATE)


def greedy_persona(directory: Path, **settings: object) -> Path:
    """The default persona, without chance."""
    persona = yaml.safe_load((stacks.ROOT / "personas" / "default.yaml").read_text())
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "default.yaml").write_text(yaml.safe_dump({**persona, "temperature": 0.0, **settings}))
    return directory


async def barge_ins(stack: Stack, agent: Agent, count: int, seed: int) -> Report:
    """Interrupts `count` answers at random moments, each with the question whose answer is interrupted next."""
    random = Random(seed)
    cuts: list[tuple[float, Interruption]] = []
    too_late = 0  # the answer was over before the caller had said enough
    async with wire_phone(agent.sip_port) as phone, on_the_line(stack, agent, phone) as line:
        await phone.until_loud(0)
        quiet = await phone.until_quiet()
        phone.say(spoken(HOURS))
        while len(cuts) < count:
            begin = await phone.until_loud(quiet)
            after_s = random.uniform(0.3, 3.0)
            cut = await line.interrupt(begin, after_s, spoken(HOURS))
            if cut is None:
                too_late += 1
                quiet = phone.sent - RATE // 10
                continue
            quiet = begin + len(cut.heard) + RATE // 10
            cuts.append((after_s, cut))
            print(
                f"{len(cuts)}: {cut.sound_s * 1000:.0f} ms heard after the decision, till {cut.late_s:.3f} s",
                flush=True,
            )
    rows: list[Report] = []
    for after_s, cut in cuts:
        wave, rate = await synthesised(stack, cut.entry)
        rows.append(
            {
                "spoke_up_after_s": round(after_s, 2),
                "heard_after_decision_ms": round(cut.sound_s * 1000),
                "last_sound_after_decision_ms": round(cut.late_s * 1000, 1),
                "decoder_streams": cut.decoder_streams,
                "lm_cpu_ms": round(cut.lm_cpu_s * 1000),
                "decoder_cpu_ms": round(cut.decoder_cpu_s * 1000),
                "heard": " ".join(normalise(heard(cut.heard))),
                "context_says": " ".join(normalise(transcribe(wave, rate))),
                "context_text": " ".join(normalise(cut.entry.text)),
            }
        )
        print(json.dumps(rows[-1]), flush=True)
    return {"seed": seed, "answers_over_before": too_late, "interruptions": rows}


def monologue(seconds: float) -> Pcm:
    """The bot's voice, at `INPUT_RATE`."""
    pieces: list[Pcm] = []
    while sum(map(len, pieces)) < seconds * INPUT_RATE:
        for text in ANSWERS:
            wave = say(text, Speaker("hibari"), INPUT_RATE)
            pieces += [np.asarray(wave * 32767, dtype=np.int16), np.zeros(INPUT_RATE // 4, np.int16)]
    return np.concatenate(pieces)[: round(seconds * INPUT_RATE)]


async def echo(seconds: float) -> Report:
    """A bad phone hears the bot for `seconds`; then a caller speaks up on it."""
    recording = monologue(seconds + 10)
    async with reciting(recording) as (bot, port), wire_phone(port, ECHO) as phone:
        begin = await phone.until_loud(0)
        while phone.sent - begin < seconds * RATE:
            await asyncio.sleep(0.1)
        falsely = len(bot.interrupted)
        phone.say(spoken(HOURS))
        await asyncio.sleep(3.0)
        caught = len(bot.interrupted) > falsely
        heard_s = len(phone.heard(begin)) / RATE
    return {"bot_spoke_s": seconds, "heard_s": round(heard_s, 1), "false": falsely, "real_one_caught": caught}


async def stops(count: int, seed: int) -> Report:
    """Interrupts a reciting bot: how much is heard after the decision, in packets; each in a call of its own."""
    random = Random(seed)
    rows: list[Report] = []
    recording = monologue(12.0)
    while len(rows) < count:
        async with reciting(recording) as (bot, port), wire_phone(port) as phone:
            begin = await phone.until_loud(0)
            after_s = random.uniform(0.3, 4.0)
            phone.say(spoken(HOURS), at=begin + round(after_s * RATE))
            async with asyncio.timeout(20):
                while not bot.interrupted:
                    await asyncio.sleep(0.02)
            await asyncio.sleep(1.0)
            decided = bot.interrupted[0]
            late = [packet for packet in phone.packets if packet.unix > decided and packet.loud]
            last_ms = max((packet.unix - decided for packet in late), default=0.0) * 1000
            rows.append({"spoke_up_after_s": round(after_s, 2), "packets": len(late), "last_ms": round(last_ms, 1)})
            print(json.dumps(rows[-1]), flush=True)
    return {"seed": seed, "stops": rows}


async def waterfalls(stack: Stack, agent: Agent, count: int) -> list[dict[str, float]]:
    """Asks `count` questions; the waterfall of each."""
    async with wire_phone(agent.sip_port) as phone, on_the_line(stack, agent, phone) as line:
        await phone.until_loud(0)
        quiet = await phone.until_quiet()
        for number in range(count):
            known = len(line.turns)
            phone.say(spoken(QUESTIONS[number % len(QUESTIONS)]))
            await phone.until_loud(quiet)
            quiet = await phone.until_quiet()
            while len(line.turns) == known:
                await asyncio.sleep(0.05)
        return line.turns


def circumstances() -> str:
    """Where and when."""
    return (
        f"{time.strftime('%d %B %Y', time.gmtime())}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the end"
    )


def keep(name: str, report: Report) -> None:
    """Adds a report to the file of all."""
    known = json.loads(OUT.read_text()) if OUT.exists() else {}
    OUT.write_text(json.dumps({**known, name: {"circumstances": circumstances(), **report}}, indent=1) + "\n")


def step_back(stack: Stack) -> None:
    """Lets the model services wait for the agent and the phone, whose clocks they would disturb on a small machine."""
    for name in ("tokenizer", "lm", "decoder"):
        for thread in Path(f"/proc/{stack.processes[name].pid}/task").iterdir():
            os.setpriority(os.PRIO_PROCESS, int(thread.name), min(19, os.getpriority(os.PRIO_PROCESS, 0) + 10))


def with_agent(work: Callable[[Stack, Agent], Coroutine[Any, Any, Report]], *settings: str) -> Report:
    """Runs something on an agent of its own."""
    with (
        tempfile.TemporaryDirectory(prefix="trunkline-turns-") as directory,
        stacks.running(Path(directory), stacks.nano_weights()) as stack,
        stack.agent(2, greedy_persona(Path(directory) / "personas"), True, *settings) as agent,
    ):
        step_back(stack)
        return asyncio.run(work(stack, agent))


@app.command("barge-ins")
def barge_ins_command(count: int = 10, seed: int = 1) -> None:
    """Interrupts the bot."""
    report = with_agent(lambda stack, agent: barge_ins(stack, agent, count, seed))
    keep("barge_ins", report)
    late = [row["heard_after_decision_ms"] for row in report["interruptions"]]
    print(f"heard after the decision: median {statistics.median(late):.0f} ms, at most {max(late):.0f} ms")


@app.command("echo")
def echo_command(seconds: float = 60.0) -> None:
    """Plays the bot's voice back to it."""
    report = asyncio.run(echo(seconds))
    keep("echo", report)
    print(json.dumps(report))


@app.command("stops")
def stops_command(count: int = 10, seed: int = 1) -> None:
    """Interrupts a bot without models."""
    keep("stops", asyncio.run(stops(count, seed)))


@app.command("early")
def early_command(rounds: Annotated[int, typer.Option(help="calls of four questions to each agent")] = 5) -> None:
    """Compares agents that begin the answer in a pause, and only after the turn, in turns."""
    with (
        tempfile.TemporaryDirectory(prefix="trunkline-turns-") as directory,
        stacks.running(Path(directory), stacks.nano_weights()) as stack,
        stack.agent(2, greedy_persona(Path(directory) / "personas"), True) as early,
        stack.agent(2, greedy_persona(Path(directory) / "personas"), True, "--speculative", "false") as late,
    ):
        step_back(stack)
        turns: dict[str, list[dict[str, float]]] = {"early": [], "late": []}
        for _ in range(rounds):
            for name, agent in (("early", early), ("late", late)):
                turns[name] += asyncio.run(waterfalls(stack, agent, len(QUESTIONS)))
                print(name, turns[name][-len(QUESTIONS) :], flush=True)
    medians = {
        name: {stage: round(statistics.median(turn[stage] for turn in found if stage in turn)) for stage in found[0]}
        for name, found in turns.items()
    }
    keep("early", {"questions": rounds * len(QUESTIONS), "median_ms": medians, "turns": turns})
    print(json.dumps(medians, indent=1))


if __name__ == "__main__":
    app()
