"""A worker process as the agent sees it: started, asked, told, and survived."""

import asyncio
import contextlib
import itertools
import logging
import os
import pickle
import socket
import sys
import tempfile
from pathlib import Path

import services
from services.agent import metrics
from services.agent.legs.base import (
    WORKER_DIED,
    CallAcceptor,
    CallRefusedError,
    LegError,
    LegKind,
    UnsupportedByLegError,
)
from services.agent.legs.sip import SipSettings
from services.agent.legs.sip_workers.connection import Connection, ConnectionBrokenError
from services.agent.legs.sip_workers.leg import RemoteSipLeg
from services.agent.legs.sip_workers.messages import (
    Ask,
    Dial,
    Ended,
    Failed,
    Heard,
    Held,
    Incoming,
    Key,
    Measured,
    Message,
    Ping,
    Play,
    Ready,
    Received,
    Reply,
    Request,
    Start,
    ToAgent,
    Verdict,
    Withdraw,
)
from services.agent.media_quality import Reception
from services.common import logs

log = logging.getLogger(__name__)

START_S = 60.0  # until it listens: a busy machine starts processes slowly
STOP_S = 8.0  # from the end of the connection to the end of the process
PING_S = 5.0
PATIENCE_S = 10.0  # for the answer to a ping
MISSED_PINGS = 2  # in a row; one alone may mean that this process was suspended
BACKLOG_BYTES = 64_000  # of PCM for a worker that does not take it; more would only be heard too late
DIED, STOPPED = WORKER_DIED, "agent stopped"


class WorkerStartError(Exception):
    """A worker did not come up; the message says why."""


class WorkerLink:
    """One worker process. Make it with `start`.

    Attributes:
        port: of its signalling.
        calls: that it has, by number.
        directory: for its temporary files.
        over: completes when the process is gone, its calls are ended and nothing is left of it; gives the exit status.
    """

    def __init__(self, settings: SipSettings, acceptor: CallAcceptor) -> None:
        self._settings = settings
        self._acceptor = acceptor
        self._numbers = itertools.count(1)
        self._dialled = itertools.count(-1, -1)
        self._replies: dict[int, asyncio.Future[Reply]] = {}
        self._offers: set[asyncio.Task[None]] = set()
        self._ready: asyncio.Future[Ready] = asyncio.get_running_loop().create_future()
        self._gone = False
        self._closing = False
        self.calls: dict[int, RemoteSipLeg] = {}
        self.port = 0

    @classmethod
    async def start(cls, settings: SipSettings, acceptor: CallAcceptor) -> "WorkerLink":
        """Starts a process and returns when it listens.

        Raises:
            WorkerStartError: it cannot.
        """
        link = cls(settings, acceptor)
        await link._launch()
        try:
            async with asyncio.timeout(START_S):
                ready = await link._ready
        except (TimeoutError, WorkerStartError) as error:
            await link.close()
            raise WorkerStartError(str(error) or f"not ready after {START_S:.0f} s") from error
        except asyncio.CancelledError:
            await link.close()
            raise
        link.port = ready.port
        return link

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """The process is there and listens to us."""
        return not self._gone

    async def ask(self, what: Ask) -> Reply:
        """Has something done.

        Raises:
            LegError: it failed, or the worker died meanwhile.
        """
        if self._gone:
            raise LegError(DIED)
        number = next(self._numbers)
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._replies[number] = future
        try:
            self._connection.send(Request(number, what))
            reply = await future
        finally:
            self._replies.pop(number, None)
        if reply.error:
            raise UnsupportedByLegError(reply.error) if reply.unsupported else LegError(reply.error)
        return reply

    def tell(self, message: Message) -> bool:
        """Sends without an answer; False when the worker is gone or has not taken the audio sent before."""
        if self._gone or (isinstance(message, Play) and self._connection.backlog > BACKLOG_BYTES):
            return False
        self._connection.send(message)
        return True

    async def dial(self, target: str) -> RemoteSipLeg:
        """Places a call.

        Raises:
            LegError: not a usable target, the request cannot be sent, or the worker died.
        """
        number = next(self._dialled)
        leg = self._keep(number, RemoteSipLeg(number, "", target, self))
        try:
            reply = await self.ask(Dial(number, target))
        except BaseException:
            self.calls.pop(number, None)
            raise
        leg.from_, leg.to = reply.from_, reply.to
        return leg

    async def withdraw(self) -> None:
        """Takes registrations back; calls go on."""
        with contextlib.suppress(LegError):  # it died, and what it was told from now on has none
            await self.ask(Withdraw())

    async def close(self) -> None:
        """Has the worker hang up what is left and end; ends it when it does not."""
        self._closing = True
        self._connection.close()
        _, late = await asyncio.wait({self.over}, timeout=STOP_S)
        if late:
            self._kill("a SIP worker does not end and is killed")
            await asyncio.wait({self.over})

    async def _launch(self) -> None:
        ours, theirs = socket.socketpair()
        # What a process that is killed leaves in its temporary directory goes with it.
        self._temporary = tempfile.TemporaryDirectory(prefix="trunkline-sip-", ignore_cleanup_errors=True)
        self.directory = Path(self._temporary.name)
        with theirs:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "services.agent.legs.sip_workers",
                str(theirs.fileno()), self._temporary.name,
                pass_fds=[theirs.fileno()],
                stdin=asyncio.subprocess.DEVNULL,
                env=_environment(self._temporary.name),
                start_new_session=True,  # Ctrl-C at a terminal is for the agent alone
            )  # fmt: skip
        reader, writer = await asyncio.open_unix_connection(sock=ours)
        self._connection: Connection[ToAgent] = Connection(reader, writer, ToAgent)
        self._connection.send(Start(pickle.dumps(self._settings), *logs.shown()))
        self.over = asyncio.create_task(self._live(), name="sip-worker")

    async def _live(self) -> int:
        watching = asyncio.create_task(self._watch(), name="sip-worker-watch")
        try:
            async for message in self._connection.messages():
                self._take(message)
        except ConnectionBrokenError:
            log.exception("a SIP worker talks nonsense", extra={"pid": self.pid})
        finally:
            watching.cancel()
            self._lose()
            status = await self._reap()
        await asyncio.gather(watching, *self._offers, return_exceptions=True)
        return status

    def _take(self, message: ToAgent) -> None:
        match message:
            case Heard(call=call, pcm=pcm):
                if call in self.calls:
                    self.calls[call].media.heard(pcm)
            case Key(call=call, digit=digit):
                if call in self.calls:
                    self.calls[call].media.pressed(digit)
            case Held(call=call, on=on):
                if call in self.calls:
                    self.calls[call].media.hold(on)
            case Reply(number=number):
                future = self._replies.get(number)
                if future is not None and not future.done():
                    future.set_result(message)
            case Incoming(call=call, from_=from_, to=to):
                leg = self._keep(call, RemoteSipLeg(call, from_, to, self))
                offer = asyncio.create_task(self._offer(call, leg), name="sip-offer")
                self._offers.add(offer)
                offer.add_done_callback(self._offers.discard)
            case Ended(call=call, reason=reason):
                if (ended := self.calls.pop(call, None)) is not None:
                    ended.end(reason)
            case Received(packets=packets, lost=lost, jitter_s=jitter_s, delay_s=delay_s):
                metrics.received(LegKind.SIP, Reception(packets, lost, jitter_s, delay_s))
            case Measured(call=call):
                if call in self.calls:
                    self.calls[call].measured(message)
            case Ready():
                if not self._ready.done():
                    self._ready.set_result(message)
            case Failed(reason=reason):
                if not self._ready.done():
                    self._ready.set_exception(WorkerStartError(reason))

    def _keep(self, number: int, leg: RemoteSipLeg) -> RemoteSipLeg:
        self.calls[number] = leg
        return leg

    async def _offer(self, call: int, leg: RemoteSipLeg) -> None:
        verdict = Verdict(call)
        try:
            await self._acceptor(leg)
        except CallRefusedError as refusal:
            verdict = Verdict(call, refusal.reason, refusal.retry_after_s)
        except Exception:
            log.exception("a call could not be taken")
            verdict = Verdict(call, "internal error", CallRefusedError("").retry_after_s)
        if verdict.refusal:
            leg.end(verdict.refusal)
        self.tell(verdict)

    async def _watch(self) -> None:
        await asyncio.wait({self._ready})  # until then `start` has its own patience
        missed = 0
        while missed < MISSED_PINGS:
            await asyncio.sleep(PING_S)
            try:
                async with asyncio.timeout(PATIENCE_S):
                    await self.ask(Ping())
                missed = 0
            except TimeoutError:
                missed += 1
        self._kill("a SIP worker hangs and is killed")

    def _kill(self, why: str) -> None:
        log.error(why, extra={"pid": self.pid})
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    def _lose(self) -> None:
        """The process is gone or goes: who waits for it or talks over it is told."""
        self._gone = True
        self._connection.close()
        if not self._ready.done():
            self._ready.set_exception(WorkerStartError("it ended before it listened"))
            self._ready.exception()  # nobody may be waiting any more
        for future in self._replies.values():
            if not future.done():
                future.set_exception(LegError(DIED))
        calls, self.calls = self.calls, {}
        for leg in calls.values():
            leg.end(STOPPED if self._closing else DIED)

    async def _reap(self) -> int:
        try:
            async with asyncio.timeout(STOP_S):
                status = await self._process.wait()
        except TimeoutError:
            self._kill("a SIP worker does not end and is killed")
            status = await self._process.wait()
        self._temporary.cleanup()
        return status


def _environment(temporary: str) -> dict[str, str]:
    """What a worker needs of our environment: not our settings, which may hold the passwords of other parts."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TRUNKLINE_")}
    root = str(Path(services.__file__).parents[1])
    path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH", ""))))
    # pipecat greets on stderr when it is imported.
    return {**kept, "PYTHONPATH": path, "TMPDIR": temporary, "LOGURU_AUTOINIT": "False"}
