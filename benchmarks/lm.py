"""The language model: tokens a second over sessions, the cost of a long prompt to others, the gain of early prefill."""

import asyncio
import itertools
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch
from rich.progress import track

from benchmarks.report import Curve, Figure, Plot, Section
from services.lm import weights
from services.lm.engine import Added, Event, Finished, GenerationSettings, Kind
from services.lm.prompt import ChatTemplate
from services.lm.torch_engine import parameters
from services.lm.torch_engine.build import chunks_for
from services.lm.torch_engine.engine import TorchEngine
from services.lm.torch_engine.planning import Chunks
from services.lm.torch_engine.runner import Runner
from services.lm.torch_engine.scheduler import Scheduler
from services.lm.torch_engine.sessions import SessionState

NANO = Path(__file__).resolve().parent.parent / "weights" / "nano" / "lm"
SESSIONS = (1, 2, 4, 8, 16)
ROUNDS = 7
_WINDOW_S = 0.8
# The demo's sampling.
_TEMPERATURE, _TOP_P = 0.2, 0.8
_QUESTION_TOKENS = 50
_LONG_PROMPT = 1500
_BESIDE = (1, 8)
_HISTORY, _TURN, _PIECE = 800, 100, 5


@dataclass(frozen=True)
class Bench:
    """A loaded model, from which schedulers are made."""

    network: parameters.Parameters
    template: ChatTemplate

    def scheduler(self, chunks: Chunks | None = None) -> Scheduler:
        """With memory for all sessions at full length, and the service's own chunks unless others are given."""
        architecture = self.network.architecture
        chunks = chunks or chunks_for(architecture, self.network.device)
        runner = Runner(self.network, max(SESSIONS) * architecture.context_length)
        return Scheduler(runner, self.template, architecture.context_length, architecture.end_tokens, chunks)

    def question(self, seed: int, tokens: int = _QUESTION_TOKENS) -> list[int]:
        """A prompt with one user turn of speech, whose codes are drawn at random."""
        template = self.template
        draw = random.Random(seed)
        codes = [draw.randrange(template.vocabulary.codebook_size) for _ in range(tokens)]
        turn = [*template.user_speech_head(), *template.speech(codes), *template.end_of_speech()]
        return [*template.prefix, *template.system("You answer the phone."), *turn]


def measure() -> Section:
    """Everything with weights/nano, float32, on the CPU."""
    network = parameters.load(weights.inspect(NANO), torch.float32)
    bench = Bench(network, ChatTemplate.load(NANO))
    rates = _rates(bench)
    one, most = rates[SESSIONS[0]], rates[SESSIONS[-1]]
    figures = [
        Figure(f"tokens a second, {SESSIONS[-1]} sessions together", most, "1/s", one, False, "one session at a time")
    ]
    for beside in _BESIDE:
        ours = _delay(bench, beside, None, ROUNDS)
        whole = _delay(bench, beside, Chunks(_LONG_PROMPT, _LONG_PROMPT), ROUNDS // 2)
        what = f"delay of the next token of {beside} session{'s' * (beside > 1)} by a {_LONG_PROMPT}-token prompt"
        figures.append(Figure(what, ours, "ordinary steps", whole, note="the prompt in one step"))
    early, late, all_late = _first_token(bench)
    what = f"end of a turn of {_TURN} speech tokens to the first token, history of {_HISTORY}"
    figures += [
        Figure(what, 1e3 * early, "ms", 1e3 * late, note="the turn prefilled after its end"),
        Figure(what, 1e3 * early, "ms", 1e3 * all_late, note="history and turn prefilled after its end"),
    ]
    return Section(
        title="Language model",
        text=(
            f"`torch` engine, {torch.get_num_threads()} thread(s), float32. Sessions answer turn after turn, each "
            f"question of {_QUESTION_TOKENS} speech tokens; a session that ends its answer starts the next at once. "
            f"Medians of {ROUNDS} rounds. Delays are the largest over the steps of the prefill, beside the median step "
            "without one."
        ),
        figures=figures,
        plots=[
            Plot(
                "lm-sessions",
                "Tokens a second over sessions",
                "sessions at once",
                "tokens/s",
                [
                    Curve("all together", list(rates), list(rates.values())),
                    Curve("one at a time", list(rates), [one] * len(rates)),
                ],
            )
        ],
    )


def _rates(bench: Bench) -> dict[int, float]:
    engine = TorchEngine(bench.scheduler())
    try:
        seen: dict[int, list[float]] = {sessions: [] for sessions in SESSIONS}
        for _ in track(range(ROUNDS), "tokens a second"):
            for sessions in SESSIONS:
                seen[sessions].append(asyncio.run(_rate(bench, engine, sessions)))
    finally:
        engine.stop()
    return {sessions: median(rates) for sessions, rates in seen.items()}


async def _rate(bench: Bench, engine: TorchEngine, sessions: int) -> float:
    """Tokens a second over a window, with every session answering all the time."""
    count = 0
    started = [asyncio.Event() for _ in range(sessions)]

    async def caller(number: int) -> None:
        ended = asyncio.Event()

        def on_event(event: Event) -> None:
            nonlocal count
            if isinstance(event, Finished):
                ended.set()
            elif isinstance(event, Added) and event.kind is not Kind.CONTROL:
                count += len(event.tokens)
                started[number].set()

        prompt = bench.question(number)
        session = await engine.open(prompt, on_event)
        try:
            for seed in itertools.count(number, sessions):
                ended.clear()
                await session.generate(GenerationSettings(_TEMPERATURE, _TOP_P, seed, max_new_tokens=200))
                await ended.wait()
                await session.truncate(len(prompt))
        finally:
            session.close()

    callers = [asyncio.create_task(caller(number)) for number in range(sessions)]
    for event in started:
        await event.wait()
    before, start = count, time.perf_counter()
    await asyncio.sleep(_WINDOW_S)
    rate = (count - before) / (time.perf_counter() - start)
    for task in callers:
        task.cancel()
    await asyncio.gather(*callers, return_exceptions=True)
    return rate


def _delay(bench: Bench, beside: int, chunks: Chunks | None, rounds: int) -> float:
    """By how many ordinary steps the next token of `beside` answering sessions comes later during a long prefill."""
    scheduler = bench.scheduler(chunks)
    talkers = [_Talker(bench, scheduler, number) for number in range(beside)]

    def step() -> float:
        for talker in talkers:
            talker.keep_talking()
        start = time.perf_counter()
        scheduler.step()
        return time.perf_counter() - start

    for _ in range(40):
        step()
    ordinary: list[float] = []
    prefills: list[list[float]] = []
    draw = random.Random(0)
    ids = [draw.randrange(bench.template.vocabulary.speech_offset) for _ in range(_LONG_PROMPT)]
    for _ in track(range(rounds), f"a long prompt beside {beside}"):
        ordinary += [step() for _ in range(30)]
        reader = scheduler.open(ids, lambda event: None)
        times = []
        while reader.pending:
            times.append(step())
        scheduler.close(reader)
        prefills.append(times)
    longest: float = max(median(times) for times in zip(*prefills, strict=False))
    return longest / median(ordinary) - 1


class _Talker:
    """A session that always answers: an answer that ends is started anew from the prompt, outside the timed steps."""

    def __init__(self, bench: Bench, scheduler: Scheduler, number: int) -> None:
        self._scheduler = scheduler
        self._prompt = bench.question(number)
        self._state = scheduler.open(self._prompt, lambda event: None)
        self._seed = number

    def keep_talking(self) -> None:
        """Starts an answer when none is under way, and brings it to its first token."""
        while self._state.answer is None:
            self._seed += 1
            self._scheduler.truncate(self._state, len(self._prompt))
            self._scheduler.generate(self._state, GenerationSettings(_TEMPERATURE, _TOP_P, self._seed, 400))
            while self._state.answer is not None and self._state.pending > 1:
                self._scheduler.step()


def _first_token(bench: Bench) -> tuple[float, float, float]:
    """Seconds from the end of a turn to the first token: turn prefilled while spoken, after its end, history too."""
    template = bench.template
    draw = random.Random(1)
    history = [draw.randrange(template.vocabulary.speech_offset) for _ in range(_HISTORY)]
    codes = [draw.randrange(template.vocabulary.codebook_size) for _ in range(_TURN)]
    turn = [*template.user_speech_head(), *template.speech(codes)]
    pieces = [turn[start : start + _PIECE] for start in range(0, len(turn), _PIECE)]

    def run(before: Sequence[Sequence[int]], after: Sequence[int]) -> float:
        scheduler = bench.scheduler()
        told: list[Event] = []
        state = scheduler.open([], told.append)
        for piece in before:
            scheduler.append(state, piece)
            _all(scheduler)
        start = time.perf_counter()
        scheduler.append(state, [*after, *template.end_of_speech()])
        scheduler.generate(state, GenerationSettings(_TEMPERATURE, _TOP_P, 0, 1))
        _until(scheduler, state, lambda: len(told) > 1)
        return time.perf_counter() - start

    runs = [
        (run([history, *pieces], []), run([history], turn), run([], [*history, *turn]))
        for _ in track(range(ROUNDS), "prefill while speaking")
    ]
    early, late, all_late = (median(times) for times in zip(*runs, strict=True))
    return early, late, all_late


def _all(scheduler: Scheduler) -> None:
    while scheduler.has_work:
        scheduler.step()


def _until(scheduler: Scheduler, state: SessionState, done: Callable[[], bool]) -> None:
    while not done():
        assert state.answer is not None
        scheduler.step()
