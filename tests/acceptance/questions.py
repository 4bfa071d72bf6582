"""`python -m tests.acceptance.questions --n 40`: phone calls with one question each, judged by what the phone hears.

The phone is Debian's baresip over G.711; the questions have wordings that training never saw; the judge is Whisper
tiny.en. Against a running agent (`--sip` and `--calls`), or a stack with weights/nano that it starts and stops itself.
"""

import asyncio
import contextlib
import json
import os
import platform
import secrets
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import soxr
import typer

from services.agent.ask_events import CallWatch
from tests.acceptance.report import Asked, markdown, stage_times
from tests.integration import stack as stacks
from tests.integration.phone import RATE, CallFailedError, Pcm, phone
from training.augment import add_noise
from training.judge import transcribe_in
from training.languages import Language
from training.paths import SPEECH_RATE
from training.questions import Question, render, test_questions

GREETING_PAUSE_S = 1.2
ANSWER_PAUSE_S = 2.5  # a busy machine may stall in an answer
BENCHMARKS = stacks.ROOT / "docs" / "benchmarks"


@dataclass(frozen=True)
class Callers:
    """Who asks: in voices that no training has, and with noise of so many dB below the speech."""

    strangers: bool = False
    snr: float | None = None


async def ask_one(
    question: Question, voice_seed: int, callers: Callers, uri: str, calls: str, directory: Path
) -> Asked:
    """One call with one question."""
    spoken = await asyncio.to_thread(on_the_phone, question, voice_seed, callers)
    asked = Asked(question.text, question.row, question.intent, question.needed)
    name = f"caller-{secrets.token_hex(4)}"
    watch = CallWatch(calls, name)
    await watch.start()
    try:
        async with phone(directory / name, name) as handset:
            await handset.call(uri)
            await handset.listen(pause_s=GREETING_PAUSE_S)
            answer = await handset.ask(spoken, ANSWER_PAUSE_S)
    except (CallFailedError, TimeoutError) as error:
        return replace(asked, problem=f"{type(error).__name__}: {error}")
    finally:
        story = await watch.finish(5.0)
    heard = await asyncio.to_thread(transcribe_in, question.language, (answer / 32768).astype(np.float32), RATE)
    # A pause in the question may make two turns of it; the greeting is turn 0.
    caption = " / ".join(story.captions[turn] for turn in sorted(story.captions) if turn > 0)
    last_turn = max(story.stages, default=0)
    return replace(
        asked,
        heard=heard,
        right=question.is_right(heard),
        caption=caption,
        caption_right=question.is_right(caption),
        stages=story.stages.get(last_turn, {}),
    )


def on_the_phone(question: Question, voice_seed: int, callers: Callers) -> Pcm:
    """The question as it goes into the phone."""
    spoken = render(question, voice_seed, callers.strangers)
    if callers.snr is not None:
        spoken = add_noise(spoken, callers.snr, np.random.default_rng(voice_seed))
    wave = soxr.resample(spoken, SPEECH_RATE, RATE)
    return np.asarray((wave * 32767).clip(-32768, 32767), dtype=np.int16)


async def ask_all(
    questions: list[Question], seed: int, callers: Callers, uri: str, calls: str, at_once: int
) -> list[Asked]:
    """All questions, `at_once` calls at a time; prints each as it is judged."""
    lines = asyncio.Semaphore(at_once)
    done = 0

    async def ask(index: int, question: Question, directory: Path) -> Asked:
        nonlocal done
        async with lines:
            result = await ask_one(question, seed * 10_000 + index, callers, uri, calls, directory)
        done += 1
        print(f"{done:3d}/{len(questions)} {'right' if result.right else 'WRONG'}  {question.text}", flush=True)
        if not result.right:
            print(f"      needed: {'; '.join(result.needed)}")
            print(f"      heard:  {result.problem or result.heard}")
            print(f"      said:   {result.caption}", flush=True)
        return result

    with tempfile.TemporaryDirectory(prefix="trunkline-phones-") as directory:
        asking = [ask(index, question, Path(directory)) for index, question in enumerate(questions)]
        return list(await asyncio.gather(*asking))


@contextlib.contextmanager
def an_agent(sip: str, calls: str, at_once: int) -> Iterator[tuple[str, str]]:
    """SIP URI and Calls address of the agent that is given, or of one started for the run."""
    if sip and calls:
        yield f"sip:trunkline@{sip}", calls
        return
    with (
        tempfile.TemporaryDirectory(prefix="trunkline-stack-") as directory,
        stacks.running(Path(directory), stacks.nano_weights()) as stack,
        stack.agent(capacity=at_once, sip=True) as agent,
    ):
        yield agent.sip_uri, agent.calls


def main(
    n: Annotated[int, typer.Option(min=1, help="questions")] = 40,
    seed: Annotated[int, typer.Option(help="which questions and voices")] = 1,
    at_once: Annotated[int, typer.Option(min=1, max=8, help="calls at a time")] = 1,
    sip: Annotated[str, typer.Option(help="host:port of a running agent's SIP user agent")] = "",
    calls: Annotated[str, typer.Option(help="host:port of its Calls service")] = "",
    mandarin: Annotated[
        bool, typer.Option("--mandarin", help="ask in Mandarin; the agent's persona must speak it")
    ] = False,
    strangers: Annotated[
        bool, typer.Option("--strangers", help="in voices that no training has; slow to make")
    ] = False,
    snr: Annotated[float | None, typer.Option(help="with noise so many dB below the speech")] = None,
    need: Annotated[float, typer.Option(help="share of right answers below which the run fails")] = 0.8,
    out: Annotated[Path, typer.Option(help="directory of the report: questions.json and questions.md")] = BENCHMARKS,
) -> None:
    """Asks questions over the phone and reports how many answers are right, and how soon they came."""
    if bool(sip) != bool(calls):
        raise typer.BadParameter("--sip and --calls go together")
    language: Language = "zh" if mandarin else "en"
    questions = test_questions(n, seed, language=language)
    began = time.time()
    with an_agent(sip, calls, at_once) as (uri, address):
        results = asyncio.run(ask_all(questions, seed, Callers(strangers, snr), uri, address, at_once))
    right = sum(result.right for result in results)
    asked_by = (
        f"seed {seed}{', voices that no training has' * strangers}"
        f"{'' if snr is None else f', noise {snr:g} dB below the speech'}"
    )
    circumstances = (
        f"Phone calls by Debian's baresip over G.711 on loopback, {at_once} at a time, one question each "
        f"({asked_by}); judged by Whisper {'base' if mandarin else 'tiny.en'} on what the phone heard. "
        f"{time.strftime('%d %B %Y', time.gmtime(began))}, "
        f"{os.cpu_count()} cores ({platform.machine()}), load {os.getloadavg()[1]:.1f} at the end."
    )
    write_report(out, results, circumstances)
    by_caption = sum(result.caption_right for result in results)
    print(f"\n{right} of {n} right as heard, {by_caption} by caption; first audio after the end of speech, ms:")
    for row in stage_times(result.stages for result in results if result.stages):
        print(f"  {row.name:<20} median {row.reached_median:6.0f}   p95 {row.reached_p95:6.0f}   ({row.turns} turns)")
    sys.exit(0 if right >= need * n else 1)


def write_report(out: Path, results: list[Asked], circumstances: str) -> None:
    """Both files of the report."""
    out.mkdir(parents=True, exist_ok=True)
    record = {"circumstances": circumstances, "questions": [asdict(result) for result in results]}
    (out / "questions.json").write_text(json.dumps(record, indent=1) + "\n")
    (out / "questions.md").write_text(markdown(results, "Questions over the phone", circumstances))


if __name__ == "__main__":
    typer.run(main)
