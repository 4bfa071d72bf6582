"""Writes calls to Redis off their own path: a Redis that is away stops no call, and gets everything when it is back."""

import asyncio
import logging
import time
from collections.abc import Callable

from redis.backoff import ExponentialWithJitterBackoff

from services.agent.conversation import Entry
from services.agent.events import CallRecord, CallState
from services.agent.state.address import Kind
from services.agent.state.connection import AWAY
from services.agent.state.journal import Journal
from services.agent.state.store import Hold, Store

log = logging.getLogger(__name__)

MAX_ENDED = 1000  # ended calls that wait for Redis
# After a failover the new primary may lack what the old one had just been told: an ended call is looked at once more
# when that would have happened.
LOOK_AGAIN_S = 15.0


class Recorder:
    """One call's record, entries and lease. Made by `Recorders.of`.

    Args:
        continues: the call whose conversation it goes on with, or empty.
        on_hold: told once when the call is wanted or was continued elsewhere.
    """

    def __init__(self, store: Store, call_id: str, continues: str, on_hold: Callable[[Hold], None]) -> None:
        self._store = store
        self._call_id = call_id
        self._continues = continues
        self._on_hold = on_hold
        self._journal = Journal()
        self._record: CallRecord | None = None
        self._resumable = False
        self._ended_at = 0.0
        self._written: CallRecord | None = None
        self._heard: tuple[int, Entry] | None = None
        self._digest = ""
        self._caller: tuple[str, float] | None = None
        self._held = Hold.HELD
        self._renew_at = 0.0
        self._changed = asyncio.Event()
        self._settled = asyncio.Event()  # ended, and Redis has all of it
        self.task = asyncio.create_task(self._run(), name=f"recorder-{call_id}")

    async def begin(self, call: CallRecord) -> None:
        """Records that the call exists.

        Raises:
            RedisError, OSError: Redis is away; it is recorded when it is back, unless the call is dropped.
        """
        self._record = call
        self._changed.set()
        await self._write_record()

    def entry(self, entry: Entry) -> None:
        """Records an entry of the conversation."""
        self._journal.add(entry)
        self._heard = None
        self._changed.set()

    def heard(self, entry: Entry) -> None:
        """Records what was heard so far of an answer under way; the next entry takes its place."""
        self._heard = self._journal.last, entry
        self._changed.set()

    def resume_with(self, digest: str) -> None:
        """Records the digest of the secret with which the call's page comes back."""
        self._digest = digest
        self._written = None
        self._changed.set()

    def found_by(self, digest: str, seconds: float) -> None:
        """A phone caller's last call is found by this digest until so long after its end."""
        self._caller = digest, seconds
        self._changed.set()

    def call(self, call: CallRecord, resumable: bool = False) -> None:
        """Records the call's state. `resumable`: of an ended call, another one may go on with it."""
        self._record, self._resumable = call, resumable
        if call.state is CallState.ENDED:
            self._ended_at = time.time()
        self._changed.set()

    async def settled(self, patience_s: float) -> bool:
        """Waits until Redis has all of an ended call; False when it took too long."""
        try:
            async with asyncio.timeout(patience_s):
                await self._settled.wait()
        except TimeoutError:
            return False
        return True

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        backoff = ExponentialWithJitterBackoff(base=0.05, cap=2.0)
        failures = 0
        while not self._settled.is_set():
            self._changed.clear()
            try:
                await self._write()
                if failures:
                    log.info("written after Redis came back", extra={"call_id": self._call_id})
                failures = 0
            except AWAY as error:
                if not failures:
                    what = {"call_id": self._call_id, "error": type(error).__name__}
                    log.warning("Redis is away; the call goes on from memory", extra=what)
                failures += 1
                self._written = None  # Redis may come back without it
                await asyncio.sleep(backoff.compute(failures))
                continue
            except Exception:
                log.exception("a call cannot be recorded", extra={"call_id": self._call_id})
                failures += 1
                await asyncio.sleep(backoff.compute(failures))
                continue
            await self._wait(self._renew_at - loop.time() if self._record is not None else None)
        if self._store.redis.address.kind is not Kind.STANDALONE:
            await self._look_again()

    async def _look_again(self) -> None:
        while True:
            await asyncio.sleep(LOOK_AGAIN_S)
            try:
                self._journal.confirm(self._journal.last - 1)  # writing the last one tells what is missing
                await self._write_entries()
                await self._finish()
                return
            except AWAY:
                continue

    async def _wait(self, seconds: float | None) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            pass

    async def _write(self) -> None:
        if self._record is None:
            return
        if self._record.state is CallState.ENDED:
            await self._write_entries()
            await self._finish()
            self._settled.set()
            return
        if self._record is not self._written or asyncio.get_running_loop().time() >= self._renew_at:
            await self._write_record()
        await self._write_entries()
        if (heard := self._heard) is not None:
            await self._store.heard(self._call_id, *heard)
            if self._heard is heard:
                self._heard = None

    async def _write_record(self) -> None:
        record = self._record
        assert record is not None
        self._renew_at = asyncio.get_running_loop().time() + self._store.times.renew_s
        held, last = await self._store.hold(record, self._continues, self._digest)
        await self._note_caller()
        self._written = record
        if held is Hold.MOVED:
            last = self._journal.last  # nothing is to be added any more
        self._journal.confirm(last)
        if held is not self._held:
            self._held = held
            self._on_hold(held)

    async def _write_entries(self) -> None:
        while pending := self._journal.pending():
            last = await self._store.append(self._call_id, pending)
            if last < pending[-1][0]:
                log.warning("Redis has lost entries; they are written again", extra={"call_id": self._call_id})
            self._journal.confirm(last)

    async def _finish(self) -> None:
        assert self._record is not None
        await self._note_caller()
        await self._store.finish(self._record, self._resumable, self._continues, self._ended_at)

    async def _note_caller(self) -> None:
        if self._caller is not None:
            digest, seconds = self._caller
            await self._store.note_last_call(digest, self._call_id, seconds + self._store.times.lease_s)


class Recorders:
    """The recorders of one agent: of live calls, and of ended ones that wait for Redis."""

    def __init__(self, store: Store, max_ended: int = MAX_ENDED) -> None:
        self._store = store
        self._max_ended = max_ended
        self._ended: dict[str, Recorder] = {}

    def of(self, call_id: str, continues: str, on_hold: Callable[[Hold], None]) -> Recorder:
        """A new call's recorder."""
        return Recorder(self._store, call_id, continues, on_hold)

    async def ended(self, recorder: Recorder, call_id: str, patience_s: float) -> None:
        """Waits a moment until Redis has all of an ended call; when it is away, it gets it later."""
        self._ended[call_id] = recorder
        recorder.task.add_done_callback(lambda _: self._ended.pop(call_id, None))
        if not await recorder.settled(patience_s):
            log.warning("an ended call waits for Redis", extra={"call_id": call_id, "waiting": len(self._ended)})
        while len(self._ended) > self._max_ended:
            oldest = next(iter(self._ended))
            log.error("too many ended calls wait for Redis: one is given up", extra={"call_id": oldest})
            self._ended.pop(oldest).task.cancel()

    async def close(self, patience_s: float) -> None:
        """Gives those that wait for Redis a last moment."""
        recorders = dict(self._ended)
        written = await asyncio.gather(*(recorder.settled(patience_s) for recorder in recorders.values()))
        for (call_id, recorder), done in zip(recorders.items(), written, strict=True):
            if not done:
                log.error("an ended call was not written", extra={"call_id": call_id})
            recorder.task.cancel()
        await asyncio.gather(*(recorder.task for recorder in recorders.values()), return_exceptions=True)
