"""Thousands of short calls over both legs, many hung up at a random moment: which failed, and what is left of them."""

import asyncio
import re
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import httpx
import redis.asyncio as redis

from benchmarks.agent.processes import Held, held
from benchmarks.agent.systems import PERSONA, System, agent
from loadtest import session
from loadtest.calls.voices import Voices
from loadtest.child import ROOT
from loadtest.run import Progress
from loadtest.scenario.model import AtOnce, Scenario, load
from loadtest.scenario.questions import questions
from loadtest.stack import Target
from trunkline.v1 import calls_pb2, calls_pb2_grpc

SCENARIO = ROOT / "scenarios" / "soak.yaml"
GREETED = PERSONA + "greeting: Good morning, this is an echo.\n"
SEED = 1
EVERY_S = 5.0
BETWEEN_RESTS = 100  # calls, after which none is placed until all have ended: what is left then is left
IDLE_S = 120.0
OURSELVES = "soak"
SETTLE_S = 3.0  # sockets and threads of the last calls are on their way out
LOG = Path(tempfile.gettempdir(), "trunkline-soak-agent.log")  # of the latest run: for whoever asks why a call failed
ENTRY = re.compile(r"\n(?=\d{4}-\d\d-\d\d \d\d:)")
ERROR = re.compile(r"^\S+ \S+ (ERROR|CRITICAL) |^Traceback ", re.MULTILINE)


@dataclass(frozen=True)
class Sample:
    """At one moment, after so many calls.

    Attributes:
        held: by the agent's main process and each of its SIP workers.
        pooled: the agent's connections to Redis; its pool keeps as many as were ever busy at once.
        keys: in Redis, and how many of them would stay for ever.
        series: of the agent's metrics.
    """

    at_s: float
    calls: int
    held: tuple[Held, ...]
    pooled: int
    keys: int
    lasting_keys: int
    series: int


@dataclass(frozen=True)
class Soaked:
    """A run.

    Attributes:
        at_once: calls.
        outcomes: of them.
        details: of calls that failed, and how often.
        rests: without calls: before it, after each `BETWEEN_RESTS` calls, and after it.
        samples: while it ran.
        errors: entries of the agent's log that speak of one, tracebacks included.
        ended_failed: calls of which the agent itself says that they failed.
    """

    at_once: int
    outcomes: dict[str, int]
    details: dict[str, int]
    seconds: float
    rests: tuple[Sample, ...]
    samples: tuple[Sample, ...]
    errors: tuple[str, ...]
    ended_failed: int

    @property
    def before(self) -> Sample:
        """Without calls, before it."""
        return self.rests[0]

    @property
    def after(self) -> Sample:
        """Without calls, after it."""
        return self.rests[-1]


class Watch:
    """Looks at one agent."""

    def __init__(self, system: System, http: httpx.AsyncClient, store: "redis.Redis") -> None:
        self._system, self._http, self._store = system, http, store
        self._began = time.monotonic()
        self.calls = 0
        self.samples: list[Sample] = []

    async def look(self) -> Sample:
        """What is held now."""
        keys = [key async for key in self._store.scan_iter(count=1000)]
        async with self._store.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.ttl(key)
            lives = await pipe.execute()
        return Sample(
            at_s=time.monotonic() - self._began,
            calls=self.calls,
            held=tuple(held(pid) for pid in self._system.pids),
            pooled=sum(client["name"] != OURSELVES for client in await self._store.client_list()),
            keys=len(keys),
            lasting_keys=sum(life == -1 for life in lives),
            series=sum(bool(line) and line[0] != "#" for line in await self._metrics()),
        )

    async def failed(self) -> int:
        """Calls of which the agent counts that they failed."""
        lines = [line for line in await self._metrics() if 'outcome="failed"' in line]
        return round(sum(float(line.rpartition(" ")[2]) for line in lines))

    async def run(self) -> None:
        """Looks now and then, for ever."""
        while True:
            self.samples.append(await self.look())
            await asyncio.sleep(EVERY_S)

    async def idle(self) -> Sample:
        """What is held once no call is left.

        Raises:
            TimeoutError: calls are left.
        """
        async with asyncio.timeout(IDLE_S), grpc.aio.insecure_channel(self._system.calls) as channel:
            stub = calls_pb2_grpc.CallsStub(channel)
            while (await stub.Info(calls_pb2.CallsInfoRequest())).active:  # noqa: ASYNC110 - in another process
                await asyncio.sleep(0.2)
        await asyncio.sleep(SETTLE_S)
        return await self.look()

    async def _metrics(self) -> list[str]:
        return (await self._http.get(self._system.metrics)).text.splitlines()


async def soak(calls: int, warm: int, tell: Callable[[Counter[str], Progress], None]) -> Soaked:
    """Makes `warm` calls, then those that count.

    Args:
        tell: takes how calls of former parts ended, and the state of this one.

    Raises:
        TimeoutError: calls do not end.
    """
    scenario = load(SCENARIO)
    asked = questions(scenario.talk.questions)
    voices = Voices.load(asked)
    with tempfile.TemporaryDirectory(prefix="trunkline-soak-") as name:
        async with (
            agent(Path(name), GREETED) as system,
            httpx.AsyncClient(timeout=30.0) as http,
            redis.Redis.from_url(system.redis, client_name=OURSELVES, decode_responses=True) as store,
        ):
            targets = [Target("127.0.0.1", port, calls=system.calls, page=system.page) for port in system.sip_ports]
            watch = Watch(system, http, store)

            async def run(count: int, seed: int, counted: Callable[[Progress], None]) -> Counter[str]:
                part: Scenario = scenario.model_copy(update={"calls": count})
                target = targets[seed % len(targets)]  # each part calls another SIP worker
                ran = await session.run(part, asked, voices, seed, target, tell=counted)
                details.update(f"{call.outcome}: {call.detail}" for call in ran.calls if call.detail)
                return Counter(str(call.outcome) for call in ran.calls)

            outcomes: Counter[str] = Counter()
            details: Counter[str] = Counter()

            def progress(now: Progress) -> None:
                watch.calls = sum(outcomes.values()) + sum(now.outcomes.values())
                tell(outcomes, now)

            try:
                await run(warm, SEED, progress)
                details.clear()
                watch.calls = 0
                rests = [await watch.idle()]
                began = time.monotonic()
                for number, done in enumerate(range(0, calls, BETWEEN_RESTS), start=1):
                    with _beside(watch.run()):
                        outcomes += await run(min(BETWEEN_RESTS, calls - done), SEED + number, progress)
                    rests.append(await watch.idle())
                seconds = time.monotonic() - began
                failed = await watch.failed()
                errors = errors_of(system.log.read_text())
            finally:
                shutil.copy(system.log, LOG)
    at_once = max(phase.calls for phase in scenario.phases if isinstance(phase, AtOnce))
    return Soaked(at_once, dict(outcomes), dict(details), seconds, tuple(rests), tuple(watch.samples), errors, failed)


def errors_of(log: str) -> tuple[str, ...]:
    """Entries of a log that speak of an error, each with the lines that belong to it."""
    return tuple(entry for entry in ENTRY.split(log) if ERROR.search(entry))


@contextmanager
def _beside(work: Coroutine[None, None, None]) -> Iterator[None]:
    task = asyncio.ensure_future(work)
    try:
        yield
    finally:
        task.cancel()
    if task.done() and not task.cancelled():
        task.result()  # it ended by itself: why
