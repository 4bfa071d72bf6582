"""One call's speech: the chain of tokenizer, LM and decoder, and who may use it now.

One activity at a time holds the floor: a turn of the caller with the bot's answer to it, or an announcement. A new turn
ends the activity before it; what the caller heard of the answer stays in the conversation, the rest is forgotten. The
LM session is brought in line with the conversation at the start of each activity, so every interruption and failure
takes the same road: decide what stays, then `_session_in_line`; see `session_keeper`.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

from services.agent.conversation import Conversation, Entry, Role
from services.agent.events import AnswerBegan, AnswerOver, BargeIn, Event, Speaking
from services.agent.floor import AnswerInProgress, CallContext, CallerTurn
from services.agent.listening import Utterance
from services.agent.lm_session import LmSession, Sampling
from services.agent.models import ModelError, ModelServices
from services.agent.personas import Persona
from services.agent.player import Media
from services.agent.session_keeper import SessionKeeper, note_failure
from services.agent.telling import Telling, spoken
from services.agent.turn_trace import TurnTrace
from services.agent.watermark.code import Code
from services.common.telemetry import traces

log = logging.getLogger(__name__)

ATTEMPTS = 2  # an answer of which nothing was heard is tried again, once
INPUT_BYTES_PER_S = 32_000  # 16-bit mono at 16 kHz


class Speech:
    """One call's speech.

    Args:
        record: takes each entry of the conversation, in order.
        publish: takes events for watchers.
        clock: wall clock of the call, seconds.
        delay_s: how long after its time a packet is heard, seconds.
        past: the conversation to go on with; none for a new one.
        progress: takes what was heard so far of an answer under way.
        watched: somebody reads along.
        mark: the watermark of what the bot says; None for none.
        heard: takes each turn's number and what is new in it, when it is over: 16-bit mono PCM at 16 kHz.
    """

    def __init__(
        self,
        call_id: str,
        persona: Persona,
        models: ModelServices,
        record: Callable[[Entry], None],
        publish: Callable[[Event], None],
        clock: Callable[[], float] = time.monotonic,
        delay_s: Callable[[], float] = lambda: 0.0,
        past: Sequence[Entry] = (),
        progress: Callable[[Entry], None] = lambda _: None,
        watched: Callable[[], bool] = lambda: False,
        mark: Code | None = None,
        heard: Callable[[int, bytes], None] = lambda turn, pcm: None,
    ) -> None:
        self._call = CallContext(call_id, persona, models, models.reserve(call_id), publish, clock, mark)
        self._past = past
        self._telling = Telling(progress, publish, watched, delay_s)
        self.conversation = Conversation()
        self.first_pcm = asyncio.Event()
        self.failed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._record = record
        self._heard_turn = heard
        self._delay_s = delay_s
        self._session = SessionKeeper(self._call)
        self._media: asyncio.Future[Media] = asyncio.get_running_loop().create_future()
        self._floors: list[asyncio.Task[None]] = []  # the last one holds the floor, those before it are ending
        self._turn: CallerTurn | None = None
        self._answer: AnswerInProgress | None = None
        self._says: deque[str] = deque()
        self._turns = 0
        self._answers = 0
        self._greeting_failure: ModelError | None = None
        policy = persona.disclosure
        self.disclosure = policy.text if policy is not None and policy.due(past) else ""
        self._disclosing: asyncio.Task[None] | None = None  # while it is said, or waits to be, and none may interrupt

    async def prepare(self) -> None:
        """Takes a place on every stage, opens the LM session, and gets the greeting so far that it can be heard.

        Raises:
            ModelError: a service has no room, or fails: the call should not be answered.
        """
        await self._call.places.hold()
        if self._past:
            self.conversation = Conversation.rebuilt(self._past)
            self._turns = max(entry.turn for entry in self._past)
            for entry in self._past:
                self._record(entry)
        session = await self._session.reopened(self.conversation.ids)
        if not self._past:
            ids = await session.appended(session.append_system(self._call.persona.system_prompt))
            self._record(self.conversation.system(ids))
        if not self._opening:
            return
        greeting = self._hold_floor(self._greet)
        if self.disclosure and self._call.persona.disclosure and not self._call.persona.disclosure.barge_in:
            self._disclosing = greeting
        ready = asyncio.create_task(self.first_pcm.wait())
        try:
            await asyncio.wait({ready, greeting}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ready.cancel()
        if self._greeting_failure is not None:
            raise self._greeting_failure

    def connect(self, media: Media) -> None:
        """The leg is answered: packets can flow."""
        self._media.set_result(media)

    def say(self, text: str) -> None:
        """Has the bot say a text after what it is saying now."""
        self._says.append(text)
        if self.floor_is_free:
            self._hold_floor(self._nothing)

    def drop_opening(self) -> None:
        """What was to be said first is not said: nobody is there to hear it."""
        self._disclosing = None
        self._stop_answer()
        self._hold_floor(self._nothing)

    @property
    def may_be_interrupted(self) -> bool:
        """False while the persona's disclosure must be heard."""
        return self._disclosing is None

    def interrupt(self) -> bool:
        """Stops what the bot says, within a packet; False when it said nothing, or may not be interrupted.

        What was heard stays in the conversation.
        """
        if not self.may_be_interrupted:
            return False
        answer = self._answer
        stopped = self._stop_answer()
        if stopped is not None:
            self._call.publish(stopped)
            if answer is not None and answer.turn is not None:
                answer.turn.trace.over("interrupted")
        return stopped is not None

    def caller_started(self, audio: bytes) -> None:
        """The caller has the floor; `audio` begins a little before their first word (16-bit mono PCM at 16 kHz)."""
        self.interrupt()
        before = self._turn
        carried = bytearray()
        if before is not None:
            carried = self._carried_over(before, len(audio))
            before.utterance.drop()
            before.trace.over("continued" if carried else "failed")
        self._turns += 1
        trace = TurnTrace(self._call.call_id, self._turns, self._call.clock)
        turn = self._turn = CallerTurn(self._turns, carried + audio, len(carried), trace)
        turn.utterance = self._utterance(turn)
        self._call.publish(Speaking("caller", on=True))
        self._hold_floor(lambda: self._converse(turn))

    def caller_audio(self, audio: bytes) -> None:
        """More of the turn."""
        if self._turn is not None and not self._turn.ended.is_set():
            self._turn.audio += audio
            self._turn.utterance.feed(audio)

    def caller_paused(self) -> None:
        """The turn may be over: its answer is begun. Nobody hears or reads of it before `caller_ended`."""
        if self._turn is not None:
            self._turn.may_be_over.set()

    def caller_resumed(self) -> None:
        """It was not over: the answer is thrown away, and the session rewound, as if it had never been begun."""
        turn = self._turn
        if turn is None or turn.ended.is_set() or not turn.may_be_over.is_set():
            return
        if self.may_be_interrupted:
            self._stop_answer()
        turn.go_on()
        self._hold_floor(lambda: self._converse(turn))

    def caller_ended(self, speech_end: float, decided: float) -> None:
        """The turn is complete: times are of the call's clock."""
        turn = self._turn
        if turn is None or turn.ended.is_set():
            return
        turn.waterfall.begin(speech_end)
        turn.waterfall.mark("turn_decided", decided)
        turn.may_be_over.set()
        turn.ended.set()
        self._call.publish(Speaking("caller", on=False))
        self._heard_turn(turn.number, bytes(turn.audio[turn.carried :]))
        self._admit(turn)
        if self._answer is not None:
            self._answer.decided()

    def caller_dropped(self) -> None:
        """It was no speech: the turn is forgotten, unless it took up one that still waits for its answer."""
        turn = self._turn
        if turn is None or turn.ended.is_set():
            return
        if turn.goes_on:
            self.caller_ended(self._call.clock(), self._call.clock())
            return
        self._turn = None
        if self.may_be_interrupted:
            self._stop_answer()
        turn.utterance.drop()
        turn.trace.over("dropped")
        self._call.publish(Speaking("caller", on=False))
        self._hold_floor(self._nothing)

    def wrote_down(self, turn: int, text: str) -> None:
        """Someone has written down what the caller said in a turn: the conversation keeps it beside its tokens."""
        self._record(Entry(Role.TRANSCRIPT, (), len(self.conversation.ids), text, turn=turn))

    @property
    def floor_is_free(self) -> bool:
        """Neither has the caller the floor, nor does the bot speak or prepare to."""
        return all(floor.done() for floor in self._floors)

    async def close(self) -> None:
        """Stops everything; the conversation keeps what was heard."""
        self._disclosing = None
        self._stop_answer()
        for floor in self._floors:
            floor.cancel()
        await _all_over(self._floors)
        if self._turn is not None:
            self._turn.utterance.drop()
            self._turn.trace.over("call ended")
        await self._session.close()
        await self._call.places.close()
        self._media.cancel()

    def _carried_over(self, before: CallerTurn, more: int) -> bytearray:
        """The audio of a turn that goes on, because nothing was heard of an answer to it; else none."""
        longest = (self._call.models.limits.max_utterance_s - 5.0) * INPUT_BYTES_PER_S
        if before.answered or len(before.audio) + more > longest:
            return bytearray()
        if before.in_conversation:
            self._record(self.conversation.rewind(before.start, before.number))
        return before.audio

    def _utterance(self, turn: CallerTurn) -> Utterance:
        call = self._call
        with traces.within(turn.trace.span):
            return Utterance(call.places.tokenizer, call.call_id, call.models.limits, turn.on_codes, bytes(turn.audio))

    def _hold_floor(self, work: Callable[[], Awaitable[None]]) -> "asyncio.Task[None]":
        # A task cancelled before its first step never runs: so those before it are cancelled here, and each newcomer
        # waits for all of them.
        before = [task for task in self._floors if not task.done()]
        for task in before:
            if task is not self._disclosing:
                task.cancel()
        floor = asyncio.create_task(self._have_floor(before, work), name=f"floor-{self._call.call_id}")
        self._floors = [*before, floor]
        return floor

    async def _have_floor(self, before: "list[asyncio.Task[None]]", work: Callable[[], Awaitable[None]]) -> None:
        await _all_over(before)
        try:
            await work()
            while self._says and not self._caller_waits:
                await self._announce(self._says.popleft())
        except Exception:
            log.exception("a call's speech broke", extra={"call_id": self._call.call_id})
            self._give_up("internal failure")

    async def _nothing(self) -> None:
        """The floor is taken only to end what held it."""

    @property
    def _caller_waits(self) -> bool:
        """A turn of the caller came while they could not interrupt, and wants the floor."""
        return self._turn is not None and asyncio.current_task() is not self._floors[-1]

    @property
    def _opening(self) -> list[str]:
        opening = self._call.persona.opening_again if self._past else self._call.persona.opening
        return [self.disclosure, *opening] if self.disclosure else opening

    async def _greet(self) -> None:
        opening = self._opening
        try:
            for text in opening:
                if self._caller_waits:
                    return
                await self._speak(text)
                self._disclosing = None
        except ModelError as error:
            if self.first_pcm.is_set():
                await self._announce(opening[0] if self._disclosing is not None else self._call.persona.apology)
            else:
                self._greeting_failure = error
        finally:
            self._disclosing = None

    async def _announce(self, text: str) -> None:
        """Says a text; a call in which even that fails twice is over."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                await self._speak(text)
                return
            except ModelError as error:
                self._note(error)
                self._stop_answer()
                if attempt == ATTEMPTS:
                    self._give_up("speech services failed")

    async def _speak(self, text: str) -> None:
        await self._play(None, self._turns, await self._session_in_line(), text)

    async def _converse(self, turn: CallerTurn) -> None:
        """One turn of the caller, heard and answered."""
        with traces.within(turn.trace.span):
            turn.trace.over(await self._answered(turn))

    async def _answered(self, turn: CallerTurn) -> str:
        """The same; returns what became of it, as `TurnTrace.over` is told."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                session = await self._session_in_line()
                if turn.in_conversation or await self._hear(turn, session):
                    await self._play(turn, turn.number, session)
                turn.answered = True
                return "answered"
            except ModelError as error:
                self._note(error)
                self._stop_answer()
                if not turn.in_conversation:
                    turn.ids = []  # they were of the session that failed
                if turn.answered or attempt == ATTEMPTS:
                    break
                if turn.utterance.failed:
                    turn.utterance = self._utterance(turn)
        await turn.ended.wait()
        turn.answered = True
        await self._announce(self._call.persona.apology)
        return "failed"

    async def _hear(self, turn: CallerTurn, session: LmSession) -> bool:
        """Takes the turn into the session while it is spoken; False when there was nothing in it."""
        turn.attach(session)
        await turn.may_be_over.wait()
        codes = await turn.utterance.end()
        turn.waterfall.mark("last_tokens", self._call.clock())
        if not codes:
            await turn.ended.wait()
            return False
        await turn.close(session)
        self._admit(turn)
        return True

    def _admit(self, turn: CallerTurn) -> None:
        """Takes the turn into the conversation, once it is over and its ids are known."""
        if turn.in_conversation or not turn.ids or not turn.ended.is_set():
            return
        turn.start = len(self.conversation.ids)
        self._record(self.conversation.user(turn.ids, turn.number))
        turn.in_conversation = True

    async def _play(self, turn: CallerTurn | None, number: int, session: LmSession, say: str = "") -> None:
        """Generates, synthesises and plays one answer, to its end."""
        self._answers += 1
        answer = AnswerInProgress(self._call, turn, number, session, self.first_pcm.set, self._answers)
        self._answer = answer
        self._call.publish(AnswerBegan(number, announcement=turn is None))
        room = self._call.models.limits.context_length - len(session.ids)
        sampling = Sampling(
            self._call.persona.temperature,
            self._call.persona.top_p,
            min(self._call.persona.max_new_tokens, room),
            self._call.seed(number),
        )

        def under_way() -> bool:
            return self._answer is answer

        playing = asyncio.create_task(self._play_out(answer), name=f"player-{self._call.call_id}")
        noting = asyncio.create_task(self._telling.note(answer, under_way), name=f"progress-{self._call.call_id}")
        telling = asyncio.create_task(self._telling.tell(answer, under_way), name=f"spoken-{self._call.call_id}")
        try:
            await answer.speaker.run(sampling, say)
            answer.player.complete()
            await playing
            await asyncio.sleep(self._delay_s())  # its last words are still on their way
        finally:
            playing.cancel()
            noting.cancel()
            telling.cancel()
        if self._answer is not answer:
            return  # interrupted in its last moment
        self._answer = None
        self._record(self.conversation.assistant(answer.speaker.answer, interrupted=False, turn=number))
        if answer.player.audible:
            self._call.publish(spoken(answer, answer.speaker.answer.text, done=True))
            self._call.publish(Speaking("bot", on=False))
        elif turn is not None:
            self._call.report_times(turn)
        self._call.publish(AnswerOver(number, heard=True))

    async def _play_out(self, answer: AnswerInProgress) -> None:
        media = await asyncio.shield(self._media)
        if answer.turn is not None:
            await answer.turn.ended.wait()
        await answer.player.run(media)

    def _stop_answer(self) -> BargeIn | None:
        """Ends an answer under way; the conversation keeps what was heard of it. None when nothing was audible."""
        answer, self._answer = self._answer, None
        if answer is None:
            return None
        audible = answer.player.audible
        heard = answer.player.stop(self._delay_s())
        kept, text = answer.speaker.answer.cut(heard.tokens), answer.speaker.answer.text_heard(heard.tokens)
        if kept.ids:
            self._record(self.conversation.assistant(kept, interrupted=True, turn=answer.number, text=text))
            if answer.turn is not None:
                answer.turn.answered = True
        self._call.publish(AnswerOver(answer.number, heard=False))
        if not audible:
            return None
        self._call.publish(spoken(answer, text, done=True, interrupted=True))
        self._call.publish(Speaking("bot", on=False))
        return BargeIn(answer.number, heard.tokens)

    async def _session_in_line(self) -> LmSession:
        trimmed = self._session.make_room(self.conversation, self._turns)
        if trimmed is not None:
            self._record(trimmed)
        return await self._session.in_line(self.conversation.ids)

    def _note(self, error: ModelError) -> None:
        note_failure(self._call.call_id, error)

    def _give_up(self, reason: str) -> None:
        if not self.failed.done():
            self.failed.set_result(reason)


async def _all_over(tasks: "list[asyncio.Task[None]]") -> None:
    """Waits for cancelled tasks to end, even when cancelled meanwhile: their clean-up must not meet a successor."""
    interrupted = False
    while pending := [task for task in tasks if not task.done()]:
        try:
            await asyncio.wait(pending)
        except asyncio.CancelledError:
            interrupted = True
    if interrupted:
        raise asyncio.CancelledError
