"""The whole system in virtual time: machines, what runs on them, and where each call goes."""

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import TypeVar

from loadtest.sim.clock import Clock
from loadtest.sim.costs import Outside
from loadtest.sim.models import Decoder, LanguageModel, Tokenizer
from loadtest.sim.processors import Process, Processors, alone
from loadtest.sim.profile import Profile
from loadtest.sim.report import Leg, Steps
from services.agent.replicas.picking import by_load, by_rendezvous

TICK_S = 0.01  # audio of all calls is accounted for so often: finer than the packets' 20 ms, coarser than each packet

T = TypeVar("T")


@dataclass(eq=False)
class Agent:
    """One agent: its event loop, the thread that asks the end-of-turn model, the leg's own process, and the rest.

    Attributes:
        calls, talking, speaking: how many there are, in how many the caller speaks, in how many the bot does.
    """

    loop: Process
    end_of_turn: Process
    line: Process
    others: Process
    calls: int = 0
    talking: int = 0
    speaking: int = 0


@dataclass(eq=False)
class Instance:
    """One machine."""

    kind: str
    processors: Processors


@dataclass
class Measured:
    """What a run found.

    Attributes:
        first_audio_s: of each answer: when the caller's last sound was, and how long after it they heard the answer.
        gaps: times that an answer ran dry.
    """

    first_audio_s: list[tuple[float, float]] = field(default_factory=list)
    gaps: int = 0


class System:
    """Machines with what runs on them.

    Args:
        replicas: by kind of machine, how many.
    """

    def __init__(self, steps: Steps, profile: Profile, replicas: dict[str, int], seed: int, outside: Outside) -> None:
        self.clock = Clock()
        self.steps = steps
        self.profile = profile
        self.leg: Leg = steps.legs[profile.leg]
        self.chance = Random(seed)
        self.measured = Measured()
        self.instances: list[Instance] = []
        self.agents: list[Agent] = []
        self.tokenizers: list[Tokenizer] = []
        self.lms: list[LanguageModel] = []
        self.decoders: list[Decoder] = []
        for machine in profile.machines:
            for _ in range(replicas[machine.name]):
                slowdown = steps.slower if machine.cores else alone
                processors = Processors(self.clock, machine.processors, slowdown)
                self.instances.append(Instance(machine.name, processors))
                for stage in machine.runs:
                    self._start(stage, processors, outside)
        self.start_counting()
        self.clock.after(0.0, self._tick)

    def _start(self, stage: str, processors: Processors, outside: Outside) -> None:
        steps = self.steps
        if stage == "agent":
            loop, end_of_turn, line, others = (Process(processors) for _ in range(4))
            self.agents.append(Agent(loop, end_of_turn, line, others))
        elif stage == "tokenizer":
            self.tokenizers.append(Tokenizer(self.clock, processors, steps.tokenizer, outside))
        elif stage == "lm":
            self.lms.append(LanguageModel(self.clock, processors, steps.lm, outside))
        else:
            self.decoders.append(Decoder(self.clock, processors, steps.decoder, outside))

    def place(self, call_id: str) -> tuple[Agent, Tokenizer, LanguageModel, Decoder]:
        """Where a call goes: as the agents choose replicas, and as an edge spreads calls over agents."""
        chance = self.chance
        agent = min(self.agents, key=lambda item: item.calls)
        tokenizer = _least(self.tokenizers, lambda item: item.calls, chance)
        decoder = _least(self.decoders, lambda item: item.calls, chance)
        lm = by_rendezvous(call_id, range(len(self.lms)), str)[0]
        return agent, tokenizer, self.lms[lm], decoder

    def start_counting(self) -> None:
        """From now on `busy` and `stage_s` count."""
        self._counted_from = self.clock.now
        self._busy_before = [item.processors.busy_s for item in self.instances]
        self._used_before = self._used()

    def busy(self, kind: str) -> float:
        """The share of time that processors of this kind of machine were busy."""
        pairs = zip(self.instances, self._busy_before, strict=True)
        of_kind = [(item.processors, before) for item, before in pairs if item.kind == kind]
        whole = self._counted_s * sum(processors.count for processors, _ in of_kind)
        return sum(processors.busy_s - before for processors, before in of_kind) / whole if whole else 0.0

    def stage_s(self) -> dict[str, float]:
        """Seconds of processor time a second that each stage took, over all instances."""
        used, counted_s = self._used(), self._counted_s or 1.0
        return {stage: (seconds - self._used_before[stage]) / counted_s for stage, seconds in used.items()}

    @property
    def _counted_s(self) -> float:
        return self.clock.now - self._counted_from

    def _used(self) -> dict[str, float]:
        return {
            "agent": sum(agent.loop.used_s + agent.end_of_turn.used_s for agent in self.agents),
            "line": sum(agent.line.used_s for agent in self.agents),
            "others": sum(agent.others.used_s for agent in self.agents),
            "tokenizer": sum(item.used_s for item in self.tokenizers),
            "lm": sum(item.used_s for item in self.lms),
            "decoder": sum(item.used_s for item in self.decoders),
        }

    def _tick(self) -> None:
        """Audio of all calls, in and out."""
        leg = self.leg
        for agent in self.agents:
            if agent.calls:
                own = leg.base_s + leg.listen_s * agent.calls
                own += leg.talk_s * agent.talking + leg.speak_s * agent.speaking
                line = leg.line_base_s + leg.line_listen_s * agent.calls + leg.line_speak_s * agent.speaking
                agent.loop.submit(own * TICK_S, _nothing)
                agent.line.submit(line * TICK_S, _nothing)
                if self.profile.callers_here:
                    agent.others.submit(leg.others_s * agent.calls * TICK_S, _nothing)
        self.clock.after(TICK_S, self._tick)


def _least(items: list[T], load: Callable[[T], float], chance: Random) -> T:
    return by_load(items, load, chance)[0]


def _nothing() -> None:
    """Nobody waits for it."""
