"""Recorded questions as the system hears them: what turn-taking reports, and how long the model's answers are."""

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr
import torch

from loadtest.measure.steps import LmBench, Progress, run_all
from loadtest.sim.report import Moment, Question, Talk
from loadtest.sip.talker import packets_of
from loadtest.sip.wire import RATE as LINE_RATE
from loadtest.sip.wire import mu_law
from services.agent.personas import Persona
from services.agent.turns import EventKind, TurnMachine, TurnSettings
from services.agent.voice_activity import WINDOW_SAMPLES, EndOfTurn, VoiceActivity
from services.lm.engine import Added, Event, GenerationSettings, Kind
from services.tokenizer import streaming
from services.tokenizer.weights import Checkpoint

RATE = 16_000
_LEAD_S, _TAIL_S = 0.8, 2.0
_PRE_ROLL_S = 0.4
_SEEDS = 4


@dataclass(frozen=True)
class Heard:
    """A question after the telephone line.

    Attributes:
        seconds: from its first to its last sound.
        hangover_s: how long after it voice activity still sees speech.
        audio: (samples,) from the turn's beginning to the pause in which its answer is begun.
    """

    name: str
    seconds: float
    moments: list[Moment]
    hangover_s: float
    audio: np.ndarray


@dataclass(frozen=True)
class Ears:
    """What listening to the questions found; `end_of_turn_s`: processor seconds of asking once."""

    questions: list[Heard]
    end_of_turn_s: float


async def listen(paths: list[Path], progress: Progress) -> Ears:
    """Runs turn-taking over each recording, as a caller over SIP speaks it."""
    judge = EndOfTurn()
    spent: list[float] = []
    try:
        questions = []
        for path in paths:
            progress(f"listening to {path.stem}")
            questions.append(await _question(path, judge, spent))
    finally:
        await judge.close()
    return Ears(questions, sorted(spent)[len(spent) // 2])


async def _question(path: Path, judge: EndOfTurn, spent: list[float]) -> Heard:
    wave, rate = soundfile.read(path, dtype="float32", always_2d=True)
    line = mu_law(b"".join(packets_of(wave.mean(axis=1), rate)))
    speech = soxr.resample(line.astype(np.float32), LINE_RATE, RATE)
    pcm = np.concatenate([np.zeros(int(_LEAD_S * RATE)), speech, np.zeros(int(_TAIL_S * RATE))]).astype("<i2")
    last_sound = _LEAD_S + len(speech) / RATE
    ears, machine = VoiceActivity(), TurnMachine(TurnSettings())
    moments: list[Moment] = []
    began, speech_end, until = 0, last_sound, len(pcm)
    for number in range(len(pcm) // WINDOW_SAMPLES):
        end = (number + 1) * WINDOW_SAMPLES
        now = end / RATE
        confidence = ears.confidence(pcm[end - WINDOW_SAMPLES : end].tobytes())
        for event in machine.window(now, confidence):
            at = now - last_sound
            if event.kind is EventKind.OPENED:
                began = max(0, int((now - event.run_s - _PRE_ROLL_S) * RATE))
            elif event.kind is EventKind.PAUSED:
                moments.append(Moment(at_s=at, kind="paused"))
                until = end
            elif event.kind is EventKind.RESUMED:
                moments.append(Moment(at_s=at, kind="resumed"))
            elif event.kind is EventKind.ASK:
                before = time.process_time()
                complete = await judge.complete(pcm[began:end].tobytes())
                spent.append(time.process_time() - before)
                moments.append(Moment(at_s=at, kind="ask", complete=complete))
            elif event.kind is EventKind.ENDED:
                speech_end = event.speech_end
        if not machine.is_open and moments:
            break
    return Heard(path.stem, len(speech) / RATE, _to_the_end(moments), speech_end - last_sound, pcm[began:until])


def _to_the_end(moments: list[Moment]) -> list[Moment]:
    """Up to the first ask that says the turn is over and is not taken back by more speech."""
    resumed = max((i for i, moment in enumerate(moments) if moment.kind == "resumed"), default=-1)
    for index, moment in enumerate(moments):
        if index > resumed and moment.complete:
            return moments[: index + 1]
    return moments


def answers(bench: LmBench, tokenizer: Checkpoint, persona: Persona, ears: Ears, progress: Progress) -> Talk:
    """What the model says to each question, by lengths."""
    template, scheduler = bench.template, bench.scheduler()
    events: list[Event] = []
    system = [*template.prefix, *template.system(persona.system_prompt)]
    state = scheduler.open(system, events.append)

    def answer(settings: GenerationSettings) -> tuple[int, int]:
        events.clear()
        scheduler.generate(state, settings)
        run_all(scheduler)
        added = [event for event in events if isinstance(event, Added)]
        text, speech = (
            sum(len(event.tokens) for event in added if event.kind is kind) for kind in (Kind.TEXT, Kind.SPEECH)
        )
        return text, speech

    def sampling(seed: int, say: str = "") -> GenerationSettings:
        room = bench.network.architecture.context_length - len(state.tokens) - 50
        return GenerationSettings(persona.temperature, persona.top_p, seed, min(persona.max_new_tokens, room), say=say)

    run_all(scheduler)
    greeting = answer(sampling(0, " ".join(persona.opening) or "Hello."))
    after_greeting = len(state.tokens)
    questions = []
    for heard in ears.questions:
        progress(f"answers to {heard.name}")
        turn = [*template.user_speech_head(), *template.speech(_tokens(tokenizer, heard)), *template.end_of_speech()]
        found = []
        for seed in range(_SEEDS):
            scheduler.truncate(state, after_greeting)
            scheduler.append(state, turn)
            text, speech = answer(sampling(seed))
            if speech:
                found.append((text, speech))
        if found:
            questions.append(Question(name=heard.name, seconds=heard.seconds, moments=heard.moments, answers=found))
    return Talk(
        questions=questions,
        system_tokens=len(system),
        greeting=greeting,
        text_block=template.text_block,
        speech_block=template.speech_block,
    )


def _tokens(checkpoint: Checkpoint, heard: Heard) -> list[int]:
    utterance = streaming.Utterance(checkpoint)
    utterance.push(torch.from_numpy(heard.audio.astype(np.float32) / 32768.0))
    utterance.end()
    ids: list[int] = []
    while utterance.due is not None:
        ids += streaming.encode(checkpoint, [utterance])[0].ids
    return ids


def listened(paths: list[Path], progress: Progress) -> Ears:
    """`listen`, from outside an event loop."""
    return asyncio.run(listen(paths, progress))
