"""The SIP worker processes of an agent: started, started again when they die, and dialled out through."""

import asyncio
import errno
import logging
import signal
from collections.abc import Callable
from dataclasses import replace

from services.agent.legs.base import CallAcceptor, LegError
from services.agent.legs.sip import SipSettings
from services.agent.legs.sip_workers.leg import RemoteSipLeg
from services.agent.legs.sip_workers.link import WorkerLink, WorkerStartError
from services.agent.legs.sip_workers.restarts import Restarts
from services.common.logs import impersonal

log = logging.getLogger(__name__)

PORT_STEP = 2  # the stack takes the port after its own for TLS


class SipWorkers:
    """Several SIP user agents, each in a process of its own: a crash of one ends its calls and no others.

    Worker k listens on `settings.port + k * PORT_STEP`, and says so in its Contact: whoever brings a call to one
    worker, the requests within that call reach the same one.

    Args:
        settings: of the first worker; the others differ in the port. Port 0: each takes a free one, and keeps it.
        count: of workers.
        acceptor: takes incoming calls.
        restarts: makes the policy for each worker.
    """

    def __init__(
        self, settings: SipSettings, count: int, acceptor: CallAcceptor, restarts: Callable[[], Restarts] = Restarts
    ) -> None:
        if count < 1:
            raise ValueError(f"there must be at least one SIP worker (given: {count})")
        self._settings = [settings_of(settings, index) for index in range(count)]
        self._acceptor = acceptor
        self._restarts = restarts
        self._links: dict[int, WorkerLink] = {}
        self._keepers: list[asyncio.Task[None]] = []
        self.failed: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    @property
    def settings(self) -> tuple[SipSettings, ...]:
        """Of each worker."""
        return tuple(self._settings)

    @property
    def ports(self) -> list[int]:
        """Of the workers' signalling; 0 where a free one will be taken."""
        return [settings.port for settings in self._settings]

    @property
    def workers(self) -> dict[int, WorkerLink]:
        """Those that run now, by index."""
        return {index: link for index, link in self._links.items() if link.alive}

    async def start(self) -> None:
        """Starts all workers and returns when they listen. `failed` resolves should none be left one day.

        Raises:
            OSError: one cannot listen; none is left running then.
        """
        starting = [WorkerLink.start(settings, self._acceptor) for settings in self._settings]
        outcomes = await asyncio.gather(*starting, return_exceptions=True)
        for index, outcome in enumerate(outcomes):
            if isinstance(outcome, WorkerLink):
                self._links[index] = outcome
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                await self.close()
                if isinstance(outcome, WorkerStartError):
                    raise OSError(errno.EADDRNOTAVAIL, str(outcome)) from outcome
                raise outcome
        for index, link in self._links.items():
            log.info("a SIP worker listens", extra={"worker": index, "port": link.port, "pid": link.pid})
            self._settings[index] = replace(self._settings[index], port=link.port)
        self._keepers = [
            asyncio.create_task(self._keep(index), name=f"sip-worker-{index}") for index in range(len(self._settings))
        ]

    async def dial(self, target: str) -> RemoteSipLeg:
        """A call placed by the worker that has the fewest; see `Dialler`.

        Raises:
            LegError: not a SIP URI, the request cannot be sent, or no worker runs.
        """
        workers = self.workers
        if not workers:
            raise LegError("no SIP worker is running")
        return await min(workers.values(), key=lambda link: len(link.calls)).dial(target)

    async def withdraw(self) -> None:
        """Takes registrations back, so that trunks bring no new calls; those there are go on."""
        self._settings = [without_registrations(settings) for settings in self._settings]  # of workers to be restarted
        await asyncio.gather(*(link.withdraw() for link in self.workers.values()))

    async def close(self) -> None:
        """Hangs up what is left and ends all workers."""
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        links, self._links = self._links, {}
        await asyncio.gather(*(link.close() for link in links.values()))

    async def _keep(self, index: int) -> None:
        """Starts a worker again whenever it dies."""
        loop = asyncio.get_running_loop()
        policy = self._restarts()
        while True:
            link = self._links[index]
            started = loop.time()
            await asyncio.wait({link.over})
            del self._links[index]
            log.error("a SIP worker died", extra={"worker": index, "pid": link.pid, "why": _cause(link.over.result())})
            delay: float | None = policy.died(loop.time() - started)
            while index not in self._links:
                if delay is None:
                    self._give_up(index)
                    return
                await asyncio.sleep(delay)
                try:
                    self._links[index] = await WorkerLink.start(self._settings[index], self._acceptor)
                except (WorkerStartError, OSError) as error:
                    log.error("a SIP worker does not start", extra={"worker": index, "why": impersonal(str(error))})
                    delay = policy.start_failed()
            log.warning("a SIP worker is back", extra={"worker": index, "pid": self._links[index].pid})

    def _give_up(self, index: int) -> None:
        log.error("a SIP worker is given up", extra={"worker": index})
        if all(keeper.done() or keeper is asyncio.current_task() for keeper in self._keepers):
            self.failed.set_result("no SIP worker can be started any more")


def settings_of(settings: SipSettings, index: int) -> SipSettings:
    """What worker `index` is told. The first alone registers: a registrar sends a name's calls to one contact."""
    if index == 0:
        return settings
    port = settings.port + index * PORT_STEP if settings.port else 0
    return replace(without_registrations(settings), port=port)


def without_registrations(settings: SipSettings) -> SipSettings:
    """The same, with trunks that are used but not registered at."""
    return replace(settings, trunks=tuple(replace(trunk, expires_s=0) for trunk in settings.trunks))


def _cause(status: int) -> str:
    return signal.Signals(-status).name if status < 0 else f"status {status}"
