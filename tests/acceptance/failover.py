"""`python -m tests.acceptance.failover`: live calls on two replicas of each model service, some of which are killed.

The callers are phones: SIP, G.711. A tokenizer, an LM or a decoder, the one with most to do, is killed with SIGKILL at
a random moment of a turn and started again, over and over. Each answer is judged by its record in Redis and by its
sound: what the caller heard is compared with a rendering of the recorded ids that nobody disturbed.
"""

import asyncio
import os
import platform
import random
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import soxr
import typer

from loadtest.sip.talker import Talker, packets_of
from loadtest.sip.wire import RATE, caller
from services.agent.conversation import Entry, Role, replay
from services.agent.floor import seed_of
from services.agent.legs.base import INPUT_RATE
from services.agent.lm_session import LmSession, Sampling
from services.agent.models import ModelServices
from services.agent.personas import Persona
from tests.acceptance.failover_caller import PhoneCaller
from tests.acceptance.failover_report import Turn, write
from tests.acceptance.fleet import STAGES, Fleet, fleet
from tests.acceptance.seams import Wave, compare
from tests.integration.patience import greedy_personas
from tests.integration.stack import ROOT
from training.paths import SPEECH_RATE
from training.questions import Question, render, test_questions
from trunkline.v1 import decoder_pb2

REPORT = ROOT / "docs" / "benchmarks" / "failover.md"
LOST_S = 90.0  # an answer that has not ended by then never will
LEFT_OUT = ("bye", "transfer", "slower", "faster")  # they end the call, or change how it speaks
QUESTIONS = 12
LAST_SOUND_S = 1.0  # from the record of an answer to its last sound at the caller


@dataclass
class Run:
    """What is going on."""

    at_once: asyncio.Semaphore
    questions: list[tuple[Question, list[bytes]]]
    chance: random.Random
    speaking: set[int] = field(default_factory=set)  # callers in a turn
    turns: list[Turn] = field(default_factory=list)
    kills: list[tuple[float, str]] = field(default_factory=list)
    lost_calls: int = 0
    over: bool = False


def spoken_questions(seed: int) -> list[tuple[Question, list[bytes]]]:
    """Questions with their packets."""
    found = [question for question in test_questions(60, seed) if question.intent not in LEFT_OUT][:QUESTIONS]
    return [
        (question, packets_of(render(question, seed + number), SPEECH_RATE)) for number, question in enumerate(found)
    ]


async def one_caller(number: int, phone: PhoneCaller, run: Run) -> None:
    """A call that asks one question after another until the run is over. It is not hung up: its id is still needed."""
    async with run.at_once:
        await phone.call()
    while not run.over:
        await asyncio.sleep(run.chance.uniform(0.2, 2.0))
        async with run.at_once:
            if run.over:
                break
            question, packets = run.chance.choice(run.questions)
            run.speaking.add(number)
            run.turns.append(await ask(phone, question, packets))
            run.speaking.discard(number)
        if phone.talker.ended:
            run.lost_calls += 1
            print(f"call {number} is LOST", flush=True)
            break


async def ask(phone: PhoneCaller, question: Question, packets: list[bytes]) -> Turn:
    """One turn; it is over when its answer is in the record, and heard."""
    talker = phone.talker
    before = len(await phone.answers())
    turn = Turn(phone.call_id, question.text, began=time.monotonic(), heard_from=len(talker.heard))
    talker.say(packets)
    while talker.is_speaking and not talker.ended:
        await asyncio.sleep(0.02)
    turn.asked = talker.said_until
    try:
        async with asyncio.timeout(LOST_S):
            while len(answers := await phone.answers()) <= before and not talker.ended:
                await asyncio.sleep(0.1)
        await asyncio.sleep(LAST_SOUND_S)
        turn.caption = " ".join(entry.text for entry in answers[before:])
    except TimeoutError:
        turn.problem = "no answer"
    turn.ended, turn.heard_to = time.monotonic(), len(talker.heard)
    turn.right = question.is_right(turn.caption)
    loud = [at for at in talker.loud_at if turn.asked < at < turn.ended]
    turn.first_sound_s = loud[0] - turn.asked if loud else None
    return turn


async def kill_some(count: int, running: Fleet, run: Run) -> None:
    """Kills replicas in turn, each at a random moment of a turn, and waits for each to be back."""
    for number in range(count):
        stage = list(STAGES)[number % len(STAGES)]
        while not run.speaking:
            await asyncio.sleep(0.05)
        await asyncio.sleep(run.chance.uniform(0.0, 6.0))
        port = await running.busiest(stage)
        run.kills.append((time.monotonic(), stage))
        print(f"{number + 1:3d}/{count} kill {stage}", flush=True)
        await running.kill_and_restart(stage, port)
        await asyncio.sleep(run.chance.uniform(1.0, 3.0))


async def judge(turns: list[Turn], callers: list[PhoneCaller], models: ModelServices) -> None:
    """Adds to each turn what its record and its sound say. Nothing else goes on any more."""
    for each in callers:
        call_id, entries = each.call_id, await each.entries()
        answers = [index for index, entry in enumerate(entries) if entry.role is Role.ASSISTANT and entry.turn > 0]
        mine = [turn for turn in turns if turn.call_id == call_id and not turn.problem]
        for turn, index in zip(mine, answers, strict=False):
            turn.interrupted = entries[index].interrupted
            turn.apology = entries[index].text == Persona.model_fields["apology"].default
            turn.same_ids = await continued(entries[:index], entries[index], models)
            rendered = await rendering(call_id, entries[index], models)
            turn.seam = compare(rendered, each.heard(turn.heard_from, turn.heard_to), RATE)
        for turn in mine[len(answers) :]:
            turn.problem = "no record"


async def continued(before: list[Entry], answer: Entry, models: ModelServices) -> bool:
    """Whether a replica that nobody disturbs gives the same answer to the same ids."""
    ids = replay(before)
    async with models.reserve("judge") as places:
        session = LmSession(places.lm, "judge")
        await session.open(ids)
        async for _ in session.generate(Sampling(0.0, 1.0, max(1, len(answer.ids)), seed=0)):
            pass
        await session.close()
        return session.ids[len(ids) :][: len(answer.ids)] == list(answer.ids)


async def rendering(call_id: str, answer: Entry, models: ModelServices) -> Wave:
    """The answer's sound at the callers' rate."""
    offset = models.lm.serving[0].info.speech_token_offset
    codes = [token - offset for token in answer.ids if 0 <= token - offset < models.limits.codebook_size]
    config = decoder_pb2.SynthesizeConfig(seed=seed_of(call_id, answer.turn), call_id="judge")
    requests = [
        decoder_pb2.SynthesizeRequest(config=config),
        decoder_pb2.SynthesizeRequest(codes=decoder_pb2.SpeechCodes(codes=codes)),
    ]
    call = models.decoder.serving[0].stub.Synthesize(iter(requests))
    pcm = b"".join([response.pcm async for response in call])
    wave = np.frombuffer(pcm, "<i2").astype(np.float32) / 32768
    return np.asarray(soxr.resample(wave, models.limits.pcm_rate, RATE), np.float32)


async def measure(calls: int, kills: int, at_once: int, seed: int, directory: Path) -> Run:
    """The whole run."""
    run = Run(asyncio.Semaphore(at_once), spoken_questions(seed), random.Random(seed))
    personas = greedy_personas(directory / "personas", actions=[])
    with fleet(directory, calls + 4) as (running, stack), stack.agent(calls, personas, True, sip_workers=2) as agent:
        async with AsyncExitStack() as exits:
            store = stack.store()
            exits.push_async_callback(store.redis.close)
            models = ModelServices(stack.tokenizer, stack.lm, stack.decoder)
            exits.push_async_callback(models.close)
            await models.connect(60.0, INPUT_RATE)
            callers = [
                PhoneCaller(Talker(await exits.enter_async_context(caller(agent.sip_port))), agent.calls, store)
                for _ in range(calls)
            ]
            tasks = [asyncio.create_task(one_caller(number, each, run)) for number, each in enumerate(callers)]
            await kill_some(kills, running, run)
            run.over = True
            await asyncio.gather(*tasks)
            for each in callers:
                await each.talker.hang_up()
            await judge(run.turns, callers, models)
    for turn in run.turns:
        turn.kills = [stage for at, stage in run.kills if turn.began - 1.0 < at < turn.ended]
    return run


def main(
    calls: Annotated[int, typer.Option(min=1, max=64, help="live calls")] = 12,
    kills: Annotated[int, typer.Option(min=0, help="replicas to kill, one after another")] = 30,
    at_once: Annotated[
        int, typer.Option(min=1, help="turns at a time; more than the machine can keep up with is no test")
    ] = 1,
    seed: Annotated[int, typer.Option(help="which questions and moments")] = 1,
    out: Annotated[Path, typer.Option(help="the report; its plot lies beside it")] = REPORT,
) -> None:
    """Kills replicas under live calls and reports what the callers noticed."""
    began = time.time()
    with tempfile.TemporaryDirectory(prefix="trunkline-failover-") as directory:
        run = asyncio.run(measure(calls, kills, at_once, seed, Path(directory)))
    circumstances = (
        f"{calls} live SIP calls, {at_once} turns at a time (seed {seed}), two replicas of each service with "
        f"weights/nano, all on one machine with the callers: {os.cpu_count()} cores ({platform.machine()}), "
        f"load {os.getloadavg()[1]:.1f} at the end. {time.strftime('%d %B %Y', time.gmtime(began))}, "
        f"{(time.time() - began) / 60:.0f} minutes. A replica that was killed starts again at the lowest priority (run "
        "as root): elsewhere it would do so on a node of its own."
    )
    sys.exit(0 if write(out, run.turns, [stage for _, stage in run.kills], run.lost_calls, circumstances) else 1)


if __name__ == "__main__":
    typer.run(main)
