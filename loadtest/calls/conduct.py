"""Lives one planned call: rings, listens, asks, interrupts, holds, presses keys, hangs up."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from typing import Any

from loadtest.calls.line import FaultError, Line, NetworkError, RefusedError
from loadtest.calls.record import Asked, Call, Outcome
from loadtest.scenario.model import Talk
from loadtest.scenario.plan import PlannedCall, PlannedTurn

log = logging.getLogger(__name__)

LONGEST_ANSWER_S = 180.0
STILL_S = 0.25  # who was heard within it is still speaking
CLOSE_S = 10.0


class Conductor:
    """One call.

    Args:
        line: nobody else uses it.
        ends: names of questions after which the bot may hang up.
        over: set when the run is over: then there is no further question.
        tell: takes the call whenever an answer has begun.
    """

    def __init__(
        self,
        line: Line,
        plan: PlannedCall,
        talk: Talk,
        ends: frozenset[str],
        over: asyncio.Event,
        tell: Callable[[Asked], None],
    ) -> None:
        self._line, self._plan, self._talk, self._ends, self._over, self._tell = line, plan, talk, ends, over, tell
        self.call = Call(plan, time.monotonic(), signalling=line.signalling)

    async def run(self) -> Call:
        """The whole call, to the end of all that belongs to it. Raises nothing but cancellation."""
        call, line = self.call, self._line
        talking = asyncio.create_task(self._converse(), name=f"caller-{call.plan.number}")
        try:
            try:
                either: set[asyncio.Future[Any]] = {talking, line.ended}
                await asyncio.wait(either, timeout=self._plan.hang_up_s, return_when=asyncio.FIRST_COMPLETED)
                call.outcome, call.detail = await self._end(talking)
            finally:
                talking.cancel()
                await asyncio.gather(talking, return_exceptions=True)
        except Exception as error:
            log.exception("a caller failed")
            call.outcome, call.detail = Outcome.CALLER, type(error).__name__
        finally:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_S):
                    await line.close()
            call.ended = time.monotonic()
            call.late_s = line.mouth.late_s
        return call

    async def _end(self, talking: "asyncio.Task[None]") -> tuple[Outcome, str]:
        """What ended the call, once it has been said to the far end."""
        line = self._line
        try:
            if talking.done():
                try:
                    talking.result()
                except FaultError:
                    with contextlib.suppress(FaultError, NetworkError):
                        await line.hang_up()
                    raise
                await line.hang_up()
                return Outcome.COMPLETED, ""
            if line.ended.done():
                return self._ended_by_far_end(line.ended.result())
            talking.cancel()
            await asyncio.gather(talking, return_exceptions=True)
            if not self._plan.vanishes:
                await line.hang_up()
            return Outcome.HUNG_UP, "" if self.call.answered_at is not None else "while it rang"
        except RefusedError as error:
            return Outcome.REFUSED, str(error)
        except FaultError as error:
            return Outcome.FAILED, str(error)
        except NetworkError as error:
            return Outcome.NETWORK, str(error)

    def _ended_by_far_end(self, how: str) -> tuple[Outcome, str]:
        asked = self.call.asked
        if asked and asked[-1].question in self._ends:
            return Outcome.BOT_ENDED, ""
        if how == "failed":
            return Outcome.NETWORK, "the connection was lost"
        return Outcome.FAILED, "the far end hung up"

    async def _converse(self) -> None:
        call, line, talk = self.call, self._line, self._talk
        call.answered_at = await line.call()
        try:
            call.greeted_at = await line.ear.hears(call.answered_at, talk.greeting_s)
        except TimeoutError:
            raise FaultError("answered into silence") from None
        for turn in self._plan.turns:
            barges_in = await self._waits_to_interrupt(turn)
            if not barges_in:
                await self._waits_for_the_floor(turn)
            if self._over.is_set():
                return
            await self._ask(turn, barges_in)
        await self._quiet()
        if call.asked and call.asked[-1].question in self._ends:
            await asyncio.sleep(talk.patience_s)  # ended by the far end, or else by us

    async def _waits_to_interrupt(self, turn: PlannedTurn) -> bool:
        """Until the moment of a barge-in; whether the bot is still speaking then."""
        before = self.call.asked[-1].first_at if self.call.asked else None
        if turn.barge_in_s is None or before is None:
            return False
        await asyncio.sleep(max(0.0, before + turn.barge_in_s - time.monotonic()))
        return self._line.ear.loud_since(time.monotonic() - STILL_S) is not None

    async def _waits_for_the_floor(self, turn: PlannedTurn) -> None:
        await self._quiet()
        line, call = self._line, self.call
        if turn.hold_s:
            await line.hold()
            await self._pause(turn.hold_s)
            await line.resume()
            call.held += 1
        if turn.keys:
            await line.press(turn.keys)
            call.pressed += 1
        await self._pause(line.ear.quiet_at(turn.pause_s) - time.monotonic())

    async def _pause(self, seconds: float) -> None:
        """So long, or until the run is over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, seconds)):
                await self._over.wait()

    async def _quiet(self) -> None:
        ear, asked = self._line.ear, self.call.asked
        try:
            await ear.quiet(self._talk.quiet_s, LONGEST_ANSWER_S)
        except TimeoutError:
            raise FaultError("the bot speaks without end") from None
        if asked and asked[-1].quiet_at is None:
            asked[-1].quiet_at = time.monotonic()

    async def _ask(self, turn: PlannedTurn, barges_in: bool) -> None:
        line = self._line
        asked = Asked(turn.question, barges_in)
        self.call.asked.append(asked)
        line.say(turn.question)
        asked.said_until = await line.mouth.said()
        asked.said_from = line.mouth.first_at
        try:
            asked.first_at = await line.ear.hears(asked.said_until, self._talk.patience_s)
        except TimeoutError:
            raise FaultError("no answer to a question") from None
        self._tell(asked)
