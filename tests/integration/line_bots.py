"""An acceptor for tests of phone calls in worker processes: it whistles, and keeps what it hears."""

import asyncio
import contextlib
import copy
from collections.abc import AsyncIterator
from typing import Any

from services.agent.legs.base import CallRefusedError, Leg, LegError
from services.agent.legs.sip import SipSettings
from services.agent.legs.sip_workers.leg import RemoteSipLeg
from services.agent.legs.sip_workers.link import WorkerLink
from services.agent.legs.sip_workers.restarts import Restarts
from services.agent.legs.sip_workers.supervisor import SipWorkers
from tests.integration.sip_bots import tone, until

QUICKLY = Restarts(longest_delay_s=0.1, budget=2)
LEAD_S = 0.06  # as the agent's own player


class Whistler:
    """Answers and whistles, packets paced a little ahead of the clock.

    Args:
        capacity: calls at once; more are refused.
        gate: calls ring until it is set.
    """

    def __init__(self, hertz: float = 1000, capacity: int = 100, gate: asyncio.Event | None = None) -> None:
        self._hertz = hertz
        self._capacity = capacity
        self._gate = gate
        self.legs: list[RemoteSipLeg] = []
        self.heard: dict[RemoteSipLeg, bytearray] = {}  # of answered calls
        self.unanswered: dict[RemoteSipLeg, str] = {}
        self.silent = False  # whistles no more
        self.tasks: set[asyncio.Task[None]] = set()

    def live(self) -> list[RemoteSipLeg]:
        """Calls that have not ended."""
        return [leg for leg in self.legs if not leg.ended.done()]

    async def __call__(self, leg: Leg) -> str:
        """See `CallAcceptor`."""
        assert isinstance(leg, RemoteSipLeg)
        if len(self.live()) >= self._capacity:
            raise CallRefusedError("all lines are busy")
        self.talk(leg)
        return "call"

    def talk(self, leg: RemoteSipLeg) -> None:
        """Answers, or waits for the answer to a call that was placed, and whistles to its end."""
        self.legs.append(leg)
        task = asyncio.create_task(self._talk(leg))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _talk(self, leg: RemoteSipLeg) -> None:
        if self._gate is not None:
            await self._gate.wait()
        try:
            await leg.answer()
        except LegError as error:
            self.unanswered[leg] = str(error)
            return
        self.heard[leg] = bytearray()
        whistle = tone(self._hertz, 1, leg.output_rate).tobytes()  # whole periods: it can be repeated
        packet = leg.output_rate // 50 * 2
        loop = asyncio.get_running_loop()
        due = loop.time()
        sent = 0
        while not leg.ended.done():
            now = loop.time()
            due = max(due, now - 0.02)  # what a busy machine missed is not caught up in a burst
            while due < now + LEAD_S:
                if not self.silent:
                    leg.media.write(whistle[sent : sent + packet], leg.output_rate)
                sent = (sent + packet) % len(whistle)
                due += 0.02
            self.heard[leg] += leg.media.read()
            await asyncio.sleep(0.005)


def worker_of(lines: SipWorkers, leg: RemoteSipLeg) -> WorkerLink:
    """The worker that has a call."""
    return next(link for link in lines.workers.values() if leg in link.calls.values())


@contextlib.asynccontextmanager
async def sip_workers(
    bot: Whistler, count: int = 2, restarts: Restarts = QUICKLY, **settings: Any
) -> AsyncIterator[SipWorkers]:
    """Running workers on free ports of loopback; at the end nothing is left of them."""
    lines = SipWorkers(SipSettings(port=0, **settings), count, bot, lambda: copy.copy(restarts))
    await lines.start()
    try:
        yield lines
        links = lines.workers.values()
    finally:
        await lines.close()
    assert [link.over.result() for link in links] == [0] * len(links)
    await until(lambda: not bot.tasks)
