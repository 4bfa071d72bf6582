"""Takes new calls or refuses them, and knows the live ones."""

import asyncio
import contextlib
import logging
import uuid
from typing import Any

from services.agent import metrics
from services.agent.admission import Admission, Place
from services.agent.call import Call, Surroundings
from services.agent.legs.base import CallRefusedError, Dialler, Leg, LegError, LegKind, UnsupportedByLegError
from services.agent.models import ModelError
from services.agent.outbound.placed import DialOptions
from services.agent.persona_store.book import PersonaBook, StoredPersona
from services.agent.recording.recording import Recording
from services.agent.returns import Past
from services.agent.state.connection import AWAY
from services.common.errors import (
    AtCapacityError,
    DrainingError,
    InvalidInputError,
    UnknownIdError,
    WrongOrderError,
)
from services.common.grpc_server import Slots

log = logging.getLogger(__name__)

RINGING_POLL_S = 0.05
PREPARE_S = 15.0  # a caller hears ringing for so long at most before we are ready or decline


class TakenError(CallRefusedError):
    """The conversation that a call would go on with is not to be had (now)."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason, retry_after_s=1)


class Switchboard:
    """The live calls of one agent; a `CallAcceptor`."""

    def __init__(self, agent_id: str, slots: Slots, personas: PersonaBook, around: Surroundings) -> None:
        self.agent_id = agent_id
        self.slots = slots
        self.around = around
        self.dialler: Dialler | None = None
        self._personas = personas
        self._calls: dict[str, Call] = {}
        self._admission = Admission(slots)
        self._places: dict[str, Place] = {}

    @property
    def capacity(self) -> int:
        """Calls at once: our own limit, or that of the model services where it is less."""
        return min(self.slots.capacity, self.around.models.capacity)

    @property
    def calls(self) -> list[Call]:
        """Ringing and live calls, oldest first."""
        return list(self._calls.values())

    async def __call__(self, leg: Leg) -> str:
        """See `CallAcceptor`."""
        place = self._enter(leg.kind)
        try:
            stored = await self._personas.answering(leg.to)
            past = await self.around.returns.of_caller(leg, stored.persona)
        except BaseException:
            place.leave()
            raise
        if past is not None:
            with contextlib.suppress(TakenError):
                return await self._go_on(leg, past, place)
        return await self._take(leg, stored, place)

    async def talk(self, leg: Leg, stored: StoredPersona) -> str:
        """As for a new leg, with a persona that was asked for by name.

        Raises:
            CallRefusedError: no room.
        """
        return await self._take(leg, stored, self._enter(leg.kind))

    async def go_on(self, leg: Leg, past: Past) -> str:
        """As for a new leg, but the call goes on with what an earlier one left.

        Raises:
            TakenError: another call goes on with it, or Redis is away.
            CallRefusedError: no room.
        """
        place = self._enter(leg.kind)
        try:
            return await self._go_on(leg, past, place)
        except TakenError:
            place.leave()
            raise

    async def _go_on(self, leg: Leg, past: Past, place: Place) -> str:
        """The place stays taken when it raises TakenError."""
        call_id = uuid.uuid4().hex
        store = self.around.store
        try:
            claimed = await store.claim(past.call_id, call_id)
        except AWAY as error:
            raise TakenError("Redis does not answer") from error
        except BaseException:
            place.leave()
            raise
        if not claimed:
            raise TakenError("another call goes on with it")
        try:
            stored = StoredPersona(past.persona, past.version)
            return await self._take(leg, stored, place, past=past, call_id=call_id)
        except BaseException:
            with contextlib.suppress(*AWAY):
                await store.unclaim(past.call_id, call_id)
            raise

    def holds(self, call_id: str) -> bool:
        """Whether the call is one of ours, and not over."""
        return call_id in self._calls

    def resume_with(self, call_id: str, digest: str) -> None:
        """The page of a call comes back with the secret of this digest."""
        if call_id in self._calls:
            self._calls[call_id].resume_with(digest)

    def _enter(self, leg: LegKind) -> Place:
        try:
            place = self._admission.enter()
        except (AtCapacityError, DrainingError) as error:
            log.info("call refused", extra={"why": error.code.name})
            metrics.refused(leg, "draining" if isinstance(error, DrainingError) else "capacity")
            raise self._admission.refusal(error) from error
        return place

    async def _take(
        self,
        leg: Leg,
        stored: StoredPersona,
        place: Place,
        dial: DialOptions | None = None,
        past: Past | None = None,
        call_id: str = "",
    ) -> str:
        call_id = call_id or uuid.uuid4().hex
        try:
            persona = await self.around.voices.spoken_by(stored.persona)
            call = Call(call_id, leg, persona, stored.version, self.around, dial, past)
        except BaseException:
            place.leave()
            raise
        self._calls[call_id], self._places[call_id] = call, place
        try:
            await self._prepare(call)
        except BaseException as error:
            await call.abandon(error if isinstance(error, CallRefusedError) else CallRefusedError("internal failure"))
            self._forget(call)
            raise
        call.start(self._forget)
        return call_id

    async def _prepare(self, call: Call) -> None:
        """Returns when the call is ready to be answered; raises CallRefusedError where it cannot be."""
        preparing = asyncio.create_task(call.prepare())
        try:
            # A placed call that ends this soon is told of as any other.
            endings = [] if call.record.placed else [call.leg.ended, call.hanging_up]
            either: set[asyncio.Future[Any]] = {preparing, *endings}
            await asyncio.wait(either, timeout=PREPARE_S, return_when=asyncio.FIRST_COMPLETED)
            for ending, reason in zip(endings, ("the caller gave up", "hung up while it rang"), strict=False):
                if ending.done():
                    metrics.over(call.leg.kind, "unanswered")
                    raise CallRefusedError(reason)
            if not preparing.done():
                metrics.refused(call.leg.kind, "fault")
                raise self._admission.fault("the speech services are too slow")
            preparing.result()
        except ModelError as error:
            log.warning("call refused", extra={"call_id": call.call_id, "stage": error.stage, "why": error.code.name})
            metrics.refused(call.leg.kind, "no_model")
            raise self._admission.no_room("the speech services have no room") from error
        except AWAY as error:
            log.warning("call refused", extra={"call_id": call.call_id, "why": type(error).__name__})
            metrics.refused(call.leg.kind, "fault")
            raise self._admission.fault("the call cannot be recorded") from error
        finally:
            preparing.cancel()
            await asyncio.gather(preparing, return_exceptions=True)

    def _forget(self, call: Call) -> None:
        self._calls.pop(call.call_id, None)
        place = self._places.pop(call.call_id, None)
        if place is not None:
            place.leave(talked=call.over is not None)

    def find(self, call_id: str) -> Call:
        """A call of ours.

        Raises:
            UnknownIdError: no such live call.
        """
        call = self._calls.get(call_id)
        if call is None:
            raise UnknownIdError(f"no live call {call_id!r}")
        return call

    async def hang_up(self, call_id: str) -> None:
        """Ends a call and waits until it is over.

        Raises:
            UnknownIdError: no such live call.
        """
        call = self.find(call_id)
        call.hang_up("hung up by the operator")
        if call.over is not None:
            await asyncio.wait({call.over})

    def say(self, call_id: str, text: str) -> None:
        """Has the bot say a text.

        Raises:
            UnknownIdError: no such live call.
            InvalidInputError: no text, or more than fits into an answer.
        """
        call = self.find(call_id)
        cleaned = " ".join(text.split())
        if not cleaned or len(cleaned) > 500:
            raise InvalidInputError(f"text must have 1 to 500 characters (given: {len(cleaned)})")
        call.say(cleaned)

    async def transfer(self, call_id: str, target: str) -> None:
        """Transfers a call blindly.

        Raises:
            UnknownIdError: no such live call.
            InvalidInputError: no target.
            WrongOrderError: its leg cannot, or the far end refused.
        """
        call = self.find(call_id)
        if not target.strip():
            raise InvalidInputError("target must be a SIP URI or a number")
        try:
            await call.transfer(target.strip())
        except LegError as error:
            raise WrongOrderError(str(error)) from error

    async def send_dtmf(self, call_id: str, digits: str) -> None:
        """Sends keys to the far end.

        Raises:
            UnknownIdError: no such live call.
            InvalidInputError: other characters than keys.
            WrongOrderError: its leg cannot.
        """
        call = self.find(call_id)
        if not digits or set(digits.upper()) - set("0123456789*#ABCD"):
            raise InvalidInputError(f"digits may be 0-9, *, #, A-D (given: {digits!r})")
        try:
            await call.leg.send_dtmf(digits.upper())
        except LegError as error:
            raise WrongOrderError(str(error)) from error

    def recording_of(self, call_id: str) -> Recording:
        """A call's recording.

        Raises:
            UnknownIdError: no such live call.
            WrongOrderError: it is not recorded.
        """
        recording = self.find(call_id).recording
        if recording is None:
            raise WrongOrderError("this call is not recorded")
        return recording

    async def dial(self, target: str, persona: str, options: DialOptions) -> str:
        """Calls a number; returns the call's id while it rings.

        Raises:
            WrongOrderError: this agent has no leg that can dial.
            InvalidInputError: an unusable target or an unknown persona.
            AtCapacityError: no slot, or no model behind us.
            DrainingError: the agent is about to stop.
        """
        if self.dialler is None:
            raise WrongOrderError("this agent has no phone line to dial out on")
        stored = await self._personas.named(persona)
        place = self._admission.enter()  # before anyone's phone rings
        try:
            leg = await self.dialler.dial(target)
        except UnsupportedByLegError as error:
            place.leave()
            raise WrongOrderError(str(error)) from error
        except LegError as error:
            place.leave()
            raise InvalidInputError(str(error)) from error
        except BaseException:
            place.leave()
            raise
        try:
            return await self._take(leg, stored, place, options)
        except CallRefusedError as error:
            await leg.hang_up(error.reason)
            raise AtCapacityError(error.reason) from error

    def announce_closing(self) -> None:
        """Has the bot tell each caller that the call will end."""
        for call in self.calls:
            call.say_closing()

    async def close(self, reason: str) -> None:
        """Takes no more calls and ends those there are, ringing ones as soon as they are ready."""
        self.slots.draining = True
        while calls := self.calls:
            for call in calls:
                call.hang_up(reason)
            running = {call.over for call in calls if call.over is not None}
            if running:
                await asyncio.wait(running)
            else:
                await asyncio.sleep(RINGING_POLL_S)
