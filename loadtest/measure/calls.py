"""What a call costs the processes around the models: from real calls to the running system."""

import asyncio
import contextlib
import functools
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from loadtest.measure.steps import Progress
from loadtest.measure.talk import Heard
from loadtest.measure.usage import Usage, children, usage
from loadtest.phone import Asked, NoAnswerError, Phone, Recording, calling
from loadtest.sim.report import Leg, Talk
from loadtest.stack import Target, demo
from services.common.channels import channel
from trunkline.v1 import calls_pb2, calls_pb2_grpc

IDLE_S = 3.0
SPEAK_S = 1.0  # how long the agent is watched while it only plays
AFTER_BURST_S = 1.3  # from the first sound: by then an answer's tokens have been made
LOOK_S = 0.02
CAPACITY = 4


@dataclass
class _Spent:
    """Processor seconds by process at one moment."""

    at: float
    by: dict[str, Usage]

    @classmethod
    def now(cls, pids: dict[str, int]) -> "_Spent":
        return cls(time.monotonic(), {name: usage(pid) for name, pid in pids.items()})

    def since(self, before: "_Spent") -> "_Spent":
        return _Spent(self.at - before.at, {name: self.by[name].since(before.by[name]) for name in self.by})

    def total(self, name: str) -> float:
        return self.by[name].total_s

    @property
    def loop(self) -> float:
        """Of the agent's event loop."""
        return self.by["agent"].loop_s


@dataclass
class _Found:
    """What single questions showed; seconds, of processor time unless it says otherwise."""

    talk: list[float] = field(default_factory=list)
    speak: list[float] = field(default_factory=list)
    line_speak: list[float] = field(default_factory=list)
    agent_token: list[float] = field(default_factory=list)
    lm_token: list[float] = field(default_factory=list)
    stream: list[float] = field(default_factory=list)
    delays: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class CallCosts:
    """A leg's costs, and those of the model services themselves."""

    leg: Leg
    lm_token_s: float
    tokenizer_stream_s: float


async def sip(
    weights: Path, paths: Sequence[Path], heard: Sequence[Heard], talk: Talk, end_of_turn_s: float, progress: Progress
) -> CallCosts:
    """Calls the demo's stack and asks each question once.

    Raises:
        StackError: it does not start.
        NoAnswerError: no question was answered.
    """
    by_name = {question.name: question for question in heard}
    ratio = _text_per_speech(talk)
    async with demo(weights, CAPACITY) as target:
        pids = _processes(target)
        async with _Stages(target.calls) as stages, calling(target.host, target.port) as phone:
            await phone.greeted()
            questions = [Recording.load(path) for path in paths]
            await phone.ask(questions[0])  # nothing is cold from here on
            idle = await _idle(pids)
            async with contextlib.AsyncExitStack() as others:
                for number in range(2, CAPACITY + 1):
                    progress(f"{number} calls that listen")
                    other = await others.enter_async_context(calling(target.host, target.port))
                    await other.greeted()
                crowd = await _idle(pids)
            found = _Found()
            for question in questions:
                progress(f"a call asks {question.name}")
                try:
                    await _one(phone, question, by_name[question.name], pids, idle, ratio, stages, found)
                except NoAnswerError:
                    continue
    if not found.delays:
        raise NoAnswerError("the system answered none of the questions")
    base, listen = _line(idle, crowd)
    leg = Leg(
        base_s=base["loop"],
        line_base_s=base["line"] + base["threads"],
        listen_s=listen["loop"],
        talk_s=_middle(found.talk),
        speak_s=_middle(found.speak),
        # the agent's other threads run beside its loop, as the SIP worker does
        line_listen_s=listen["line"] + listen["threads"],
        line_speak_s=_middle(found.line_speak),
        others_s=listen["redis"] + listen["callers"],
        token_s=_middle(found.agent_token),
        end_of_turn_s=end_of_turn_s,
        delays_s=[max(0.0, delay) for delay in found.delays],
    )
    return CallCosts(leg, _middle(found.lm_token), _middle(found.stream))


async def _idle(pids: dict[str, int]) -> _Spent:
    """What is spent while nobody speaks."""
    before = _Spent.now(pids)
    await asyncio.sleep(IDLE_S)
    return _Spent.now(pids).since(before)


def _line(one: _Spent, many: _Spent) -> tuple[dict[str, float], dict[str, float]]:
    """What a second costs without any call, and what each call adds: the straight line through one call and `CAPACITY`.

    One call alone costs more than each of several does, for these share the loop's rounds.
    """
    parts: dict[str, Callable[[_Spent], float]] = {
        "loop": lambda spent: spent.loop,
        "threads": lambda spent: spent.total("agent") - spent.loop,
        **{name: functools.partial(_Spent.total, name=name) for name in ("line", "redis", "callers")},
    }
    first = {name: part(one) / one.at for name, part in parts.items()}
    each = {
        name: min(first[name], max(0.0, part(many) / many.at - first[name]) / (CAPACITY - 1))
        for name, part in parts.items()
    }
    return {name: first[name] - each[name] for name in parts}, each


def _processes(target: Target) -> dict[str, int]:
    """By name; `line` is the agent's SIP worker, `callers` this process."""
    workers = children(target.pids["agent"])
    return {**target.pids, "line": workers[-1] if workers else target.pids["agent"], "callers": _own_pid()}


def _own_pid() -> int:
    return int(Path("/proc/self").resolve().name)


async def _one(
    phone: Phone,
    question: Recording,
    heard: Heard,
    pids: dict[str, int],
    idle: _Spent,
    ratio: float,
    stages: "_Stages",
    found: _Found,
) -> None:
    """One question, with looks at what was spent in between."""
    looks: dict[str, _Spent] = {"began": _Spent.now(pids)}

    async def look(name: str, after_s: float) -> None:
        await asyncio.sleep(after_s)
        looks[name] = _Spent.now(pids)

    looking = [asyncio.create_task(look("spoken", question.seconds))]

    def begins() -> None:
        looking.append(asyncio.create_task(look("playing", AFTER_BURST_S)))
        looking.append(asyncio.create_task(look("played", AFTER_BURST_S + SPEAK_S)))

    try:
        asked = await phone.ask(question, begins)
        over = _Spent.now(pids)
        await asyncio.gather(*looking)
    finally:
        for task in looking:
            task.cancel()
    listening = idle.loop / idle.at
    spoken = looks["spoken"].since(looks["began"])
    talking = spoken.loop - listening * spoken.at
    found.talk.append(max(0.0, talking) / question.seconds)
    tokenizer = over.since(looks["began"]).by["tokenizer"]
    found.stream.append(max(0.0, tokenizer.total_s - tokenizer.engine_s) / question.seconds)
    if asked.answer_s > AFTER_BURST_S + SPEAK_S:
        played = looks["played"].since(looks["playing"])
        found.speak.append(max(0.0, played.loop / played.at - listening))
        found.line_speak.append(max(0.0, played.total("line") / played.at - idle.total("line") / idle.at))
    _burst(asked, over.since(looks["spoken"]), listening, ratio, found)
    first_packet_s = await stages.first_packet_s()
    if first_packet_s is not None and not asked.overlapped:
        found.delays.append(asked.first_audio_s - first_packet_s - heard.hangover_s)


def _burst(asked: Asked, spent: _Spent, listening: float, ratio: float, found: _Found) -> None:
    """What the tokens of an answer cost the agent, and the language model's service beside its engine."""
    tokens = asked.answer_s * 12.5 * (1 + ratio)
    burst = spent.loop - listening * spent.at - _middle(found.speak) * asked.answer_s
    found.agent_token.append(max(0.0, burst) / tokens)
    lm = spent.by["lm"]
    found.lm_token.append(max(0.0, lm.total_s - lm.engine_s) / tokens)


def _text_per_speech(talk: Talk) -> float:
    answers = [answer for question in talk.questions for answer in question.answers]
    return sum(text for text, _ in answers) / sum(speech for _, speech in answers)


def _middle(values: Sequence[float]) -> float:
    return statistics.median(values) if values else 0.0


class _Stages:
    """The agent's own account of each turn, from its Calls service."""

    def __init__(self, address: str) -> None:
        self._channel = channel(address)
        self._turns: asyncio.Queue[calls_pb2.Turn] = asyncio.Queue()

    async def __aenter__(self) -> "_Stages":
        stub: calls_pb2_grpc.CallsAsyncStub = calls_pb2_grpc.CallsStub(self._channel)
        self._task = asyncio.create_task(self._follow(stub))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._channel.close()

    async def first_packet_s(self) -> float | None:
        """Of the latest turn: from the end of speech as the agent sees it to its first packet."""
        latest = None
        while not self._turns.empty():
            latest = self._turns.get_nowait()
        found = [stage.end_ms / 1000 for stage in latest.stages if stage.name == "first_packet"] if latest else []
        return found[0] if found else None

    async def _follow(self, stub: "calls_pb2_grpc.CallsAsyncStub") -> None:
        async for event in stub.WatchCalls(calls_pb2.WatchCallsRequest()):
            if event.WhichOneof("event") == "turn":
                self._turns.put_nowait(event.turn)
