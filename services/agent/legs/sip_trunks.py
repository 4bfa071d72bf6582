"""Registrations at trunks (RFC 3261 section 10): kept alive, tried again after failures, and visible."""

import asyncio
import contextlib
import logging
import random
import time
from dataclasses import dataclass
from enum import Enum

from baresip import BaresipError, Event, RegistrationError, StackEvent, UserAgent

from services.agent.legs.sip_settings import Trunk

log = logging.getLogger(__name__)
logging.getLogger("baresip.ua").setLevel(logging.CRITICAL)  # says the same once more

ANSWER_S = 40.0  # a REGISTER without any response fails after 64 * T1 = 32 s
UNREGISTER_S = 2.0
FRESH = 0.85  # of its time, a registration is surely not being renewed: the stack begins at 0.9
FIRST_DELAY_S, REFUSED_DELAY_S, LONGEST_DELAY_S = 2.0, 60.0, 300.0


class Registration(Enum):
    """State of a trunk's registration; the values are shown."""

    OFF = "off"  # the trunk goes by address
    TRYING = "trying"
    REGISTERED = "registered"
    FAILED = "failed"


@dataclass(frozen=True)
class TrunkStatus:
    """A trunk as it is now.

    Attributes:
        status: what the registrar said last, such as `401 Unauthorized`; empty when all is well.
        since: when the state began, seconds since 1970.
    """

    name: str
    registration: Registration
    status: str = ""
    since: float = 0.0


def retry_delay_s(failures: int, status: int | None, chance: float) -> float:
    """How long to wait after the given number of failures in a row.

    Doubles, with up to half of it taken off by `chance` (0 to 1), so that many agents do not come at once (RFC 5626
    section 4.5). A registrar that says no (4xx, such as a wrong password) is given at least a minute, for some lock a
    name after a few attempts.
    """
    shortest = REFUSED_DELAY_S if status is not None and 400 <= status < 500 and status != 408 else FIRST_DELAY_S
    delay = min(LONGEST_DELAY_S, shortest * 2.0 ** (min(failures, 10) - 1))
    return delay * (1 - chance / 2)


class TrunkLine:
    """One trunk and the user agent that speaks for it."""

    def __init__(self, trunk: Trunk, agent: UserAgent) -> None:
        self.trunk = trunk
        self.agent = agent
        self.status = TrunkStatus(trunk.name, Registration.OFF, since=time.time())
        self._failed = asyncio.Event()
        self._confirmed = 0.0  # monotonic time of the registrar's latest 200
        self._failure: tuple[int | None, str] = (None, "")
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to register, if the trunk wants it; returns at once."""
        if self.trunk.expires_s:
            self.agent.on(self._on_event)
            self._task = asyncio.get_running_loop().create_task(self._keep(), name=f"trunk-{self.trunk.name}")

    async def close(self) -> None:
        """Takes the registration back, if there is one; calls stay. Idempotent."""
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        # The stack corrupts its memory when it has to unregister while a REGISTER of its own is unanswered.
        age = time.monotonic() - self._confirmed
        if self.status.registration is Registration.REGISTERED and age < FRESH * self.trunk.expires_s:
            with contextlib.suppress(BaresipError):
                await self.agent.unregister(timeout=UNREGISTER_S)
        self._task = None
        self._enter(Registration.OFF)

    async def _keep(self) -> None:
        failures = 0
        self._enter(Registration.TRYING)
        while True:
            self._failed.clear()
            try:
                await self.agent.register(timeout=ANSWER_S)
            except RegistrationError as error:
                self._failure = (error.status, f"{error.status or ''} {error.reason or error}".strip())
            except BaresipError as error:
                self._failure = (None, str(error))
            else:
                failures = 0
                self._enter(Registration.REGISTERED)
                # The stack renews it by itself; this returns when that fails.
                await self._failed.wait()
            failures += 1
            status, text = self._failure
            delay = retry_delay_s(failures, status, random.random())
            self._enter(Registration.FAILED, text, delay)
            await asyncio.sleep(delay)

    def _on_event(self, event: StackEvent) -> None:
        if event.event is Event.REGISTER_OK:
            self._confirmed = time.monotonic()
        elif event.event is Event.REGISTER_FAIL:
            status, _, _ = (event.text or "").partition(" ")
            self._failure = (int(status) if status.isdigit() else None, event.text or "no answer")
            self._failed.set()

    def _enter(self, registration: Registration, status: str = "", retry_s: float | None = None) -> None:
        changed = (registration, status) != (self.status.registration, self.status.status)
        if changed:
            self.status = TrunkStatus(self.trunk.name, registration, status, time.time())
        extra: dict[str, object] = {"trunk": self.trunk.name}
        if registration is Registration.FAILED:
            log.warning(
                "trunk registration failed", extra={**extra, "status": status, "retry_s": round(retry_s or 0.0, 1)}
            )
        elif registration is Registration.REGISTERED and changed:
            log.info("trunk registered", extra=extra)
