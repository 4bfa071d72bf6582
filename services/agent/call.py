"""One call's life: ring, get ready to speak, answer, talk through a pipecat pipeline, hang up, leave nothing behind."""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.workers.runner import WorkerRunner

from services.agent import metrics
from services.agent.actions.runner import ActionRunner
from services.agent.actions.webhook import Webhooks
from services.agent.conversation import Entry, Role
from services.agent.echo import PlayedLine
from services.agent.events import (
    INTERNAL,
    CallerCaption,
    CallRecord,
    CallState,
    Dtmf,
    Event,
    EventBus,
    Speaking,
    Transfer,
    TransferOutcome,
)
from services.agent.legs.base import (
    BROKEN,
    INPUT_RATE,
    LOST_LEG,
    CallRefusedError,
    DecliningLeg,
    Leg,
    LegError,
    LegKind,
    MeasuredLeg,
    OwnQueue,
    ReturningLeg,
)
from services.agent.media_quality import QualityMeter
from services.agent.models import ModelServices
from services.agent.outbound.outcome import DialOutcome, NotAnsweredError
from services.agent.outbound.placed import DialOptions, PlacedCall
from services.agent.personas import Persona
from services.agent.processors import EchoProcessor, SpeechProcessor, TurnProcessor
from services.agent.recording.recording import Recording, Recordings
from services.agent.recording.taps import tapped
from services.agent.returns import MOVED, RESUMABLE, Past, Returns, caller_text, names_someone
from services.agent.rtvi import Screen
from services.agent.silence import SilenceWatch
from services.agent.speech import Speech
from services.agent.state.connection import AWAY
from services.agent.state.recorder import Recorders
from services.agent.state.store import Hold, Store
from services.agent.supervision.listening_in import ListeningIn
from services.agent.transcript.backlog import Words
from services.agent.transcript.transcriber import Transcriber
from services.agent.turns import TurnSettings, for_persona
from services.agent.voice_activity import EndOfTurn, VoiceActivity
from services.agent.voices.keeper import VoiceKeeper
from services.agent.watermark.code import Code
from services.common.logs import impersonal

log = logging.getLogger(__name__)

ANSWER_S = 15.0  # media must flow this soon after the answer
TOO_LONG = "longest duration of a call reached"
TEARDOWN_S = 5.0  # each part of the clean-up gets this long


@dataclass(frozen=True)
class Surroundings:
    """What all calls of an agent share."""

    models: ModelServices
    store: Store
    returns: Returns
    recorders: Recorders
    bus: EventBus
    end_of_turn: EndOfTurn
    turns: TurnSettings
    max_call_s: float
    webhooks: Webhooks
    voices: VoiceKeeper
    recordings: Recordings | None = None
    admit_without_redis: bool = False
    without_echo_canceller: frozenset[LegKind] = frozenset()
    transcriber: Transcriber | None = None
    mark: Code | None = None  # the watermark of personas that have not turned it off


class Call:
    """A call from the moment it rings. `prepare`, then `start`; `over` completes when nothing of it is left.

    Args:
        dial: how it is placed; None for a call that came in.
        past: what it goes on with; None for a new conversation.
    """

    def __init__(
        self,
        call_id: str,
        leg: Leg,
        persona: Persona,
        version: int,
        around: Surroundings,
        dial: DialOptions | None = None,
        past: Past | None = None,
    ) -> None:
        self.leg = leg
        self.record = CallRecord(
            call_id=call_id,
            leg=leg.kind,
            state=CallState.RINGING,
            from_=leg.from_,
            to=leg.to,
            persona=persona.name,
            persona_version=version,
            started=time.time(),
            placed=dial is not None,
            may_listen=persona.supervision.listen,
        )
        self._around = around
        self._persona = persona
        self._recorder = around.recorders.of(call_id, past.call_id if past is not None else "", self._on_hold)
        self._publish_outside = around.bus.publisher(call_id)
        self._screen = Screen()
        self._past = past
        for entry in past.entries if past is not None else ():
            if entry.role is Role.ASSISTANT and entry.text.strip():
                self._screen.said_before(entry.turn, entry.text.strip(), entry.interrupted)
        self._to_screen: asyncio.Queue[Event | None] = asyncio.Queue()  # None: all of it again
        self.recording: Recording | None = None
        if around.recordings is not None and persona.recording.enabled:
            self.recording = around.recordings.of(call_id, persona.recording)
        self.listening_in = ListeningIn(call_id, lambda: self.recording is not None and self.recording.paused)
        self._quality = QualityMeter()
        self._speech = Speech(
            call_id,
            persona,
            around.models,
            self._record,
            self._publish,
            delay_s=lambda: leg.playout_delay_s,
            past=past.entries if past is not None else (),
            progress=self._recorder.heard,
            watched=lambda: around.bus.watched,
            mark=around.mark if persona.watermark else None,
            heard=self._write_down,
        )
        self._hang_up: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._placed = PlacedCall(dial, self._speech, self.hang_up, self._outcome) if dial is not None else None
        self._actions = ActionRunner(
            call_id, persona, leg, self._speech, self.hang_up, around.webhooks, self._publish_outside, time.monotonic
        )
        if isinstance(leg, ReturningLeg):
            leg.on_return(lambda: self._to_screen.put_nowait(None))
        self.over: asyncio.Task[None] | None = None

    @property
    def call_id(self) -> str:
        """Names the call."""
        return self.record.call_id

    @property
    def hanging_up(self) -> "asyncio.Future[str]":
        """Resolves with the reason when `hang_up` was called."""
        return self._hang_up

    async def prepare(self) -> None:
        """Gets everything ready to speak while the leg rings.

        Raises:
            ModelError: the call should not be answered; `abandon` it.
        """
        log.info(
            "call begins",
            extra={
                "call_id": self.call_id, "leg": self.leg.kind.value, "placed": self.record.placed,
                "persona": self.record.persona, "persona_version": self.record.persona_version,
                "watermark": self._around.mark is not None and self._persona.watermark,
                "pii_from": self.record.from_, "pii_to": self.record.to,
            },
        )  # fmt: skip
        policy = self._persona.resume
        phone = self.leg.kind is not LegKind.WEBRTC and not self.record.placed
        if policy is not None and policy.within_s and phone and names_someone(self.leg.from_):
            digest = self._around.store.sealer.digests(caller_text(self.leg.from_, self._persona.name))[0]
            self._recorder.found_by(digest, policy.within_s)
        try:
            await self._recorder.begin(self.record)
        except AWAY:
            if not self._around.admit_without_redis:
                raise
        self._publish_outside(self.record)
        await self._speech.prepare()

    def resume_with(self, digest: str) -> None:
        """The page of this call comes back with the secret of this digest."""
        self._recorder.resume_with(digest)

    async def abandon(self, refusal: CallRefusedError) -> None:
        """Ends a call that was not started."""
        if isinstance(self.leg, DecliningLeg):
            await _finish(asyncio.create_task(self.leg.decline(refusal)), "leg")
        await self._wind_up(refusal.reason)

    def start(self, on_over: Callable[["Call"], None]) -> None:
        """Answers and lives on its own; `on_over` is called when nothing of the call is left."""
        self.over = asyncio.create_task(self._live(), name=f"call-{self.call_id}")
        self.over.add_done_callback(lambda _: on_over(self))

    def hang_up(self, reason: str) -> None:
        """Ends the call soon; `over` completes when it has."""
        if not self._hang_up.done():
            self._hang_up.set_result(reason)

    def say(self, text: str) -> None:
        """Has the bot say a text after what it is saying now."""
        self._speech.say(text)

    async def transfer(self, target: str) -> None:
        """Transfers the call blindly, for an operator.

        Raises:
            LegError: its leg cannot, or the far end refused.
        """
        self._publish_outside(Transfer(target, TransferOutcome.STARTED))
        try:
            await self.leg.transfer(target)
        except LegError as error:
            self._publish_outside(Transfer(target, TransferOutcome.FAILED, str(error)))
            raise
        self._publish_outside(Transfer(target, TransferOutcome.DONE))

    async def tell_quality(self) -> None:
        """Tells watchers how the audio gets through."""
        if self.record.state is CallState.LIVE and isinstance(self.leg, MeasuredLeg):
            self._publish_outside(self._quality.take(await self.leg.measure()))

    def say_closing(self) -> None:
        """Has the bot say that the call will end, when it is live."""
        if self.record.state is CallState.LIVE and self._persona.closing:
            self.say(self._persona.closing)

    async def _live(self) -> None:
        reason = "internal failure"
        outcome = "failed"
        try:
            reason = await self._talk()
            outcome = self._ended_by(reason)
        except LegError as error:
            reason = str(error)
            outcome = self._ended_by(reason)
        except NotAnsweredError as error:
            reason = error.reason
            outcome = "unanswered"
        except Exception:
            log.exception("a call broke", extra={"call_id": self.call_id})
        finally:
            metrics.over(self.leg.kind, outcome)
            await self._wind_up(reason)

    def _ended_by(self, reason: str) -> str:
        """Who or what ended it, as `catalogue.OUTCOMES` tells them apart."""
        if self.record.state is CallState.RINGING:
            return "unanswered"
        if self._hang_up.done() or reason == TOO_LONG:
            return "agent"
        if reason in BROKEN or not self.leg.ended.done():
            return "failed"
        return "lost" if reason in LOST_LEG else "caller"

    async def _talk(self) -> str:
        """Answers, and runs the pipeline until someone ends the call; returns who or what did."""
        if self._hang_up.done():
            return self._hang_up.result()
        try:
            if self._placed is not None:
                await self._placed.ring(self.leg, self._hang_up)
            else:
                async with asyncio.timeout(ANSWER_S):
                    await self.leg.answer()
        except TimeoutError:
            return "no media after the answer"
        self._change(CallState.LIVE)
        if self._past is not None:
            self._to_screen.put_nowait(None)
        log.info("call answered", extra={"call_id": self.call_id, "leg": self.leg.kind.value})
        played = None if self.leg.kind in self._around.without_echo_canceller else PlayedLine()
        echo = [] if played is None else [EchoProcessor(played)]
        settings, may_barge_in = for_persona(self._around.turns, self._persona.barge_in)
        turns = TurnProcessor(settings, may_barge_in, VoiceActivity(), self._around.end_of_turn)
        connect = self._placed.connect if self._placed is not None else self._speech.connect
        speech = SpeechProcessor(
            self._speech,
            self.leg.output_rate,
            self._key,
            connect,
            SilenceWatch(self._persona.silence),
            lambda: self.hang_up("the caller was silent"),
            played,
            self.leg if isinstance(self.leg, OwnQueue) else None,
        )
        first = [self._placed.processor()] if self._placed is not None else []
        transport = self.leg.transport
        worker = PipelineWorker(
            Pipeline(tapped([transport.input(), *first, *echo, turns, speech, transport.output()], self.recording)),
            params=PipelineParams(audio_in_sample_rate=INPUT_RATE, audio_out_sample_rate=self.leg.output_rate),
            enable_rtvi=False,
            enable_turn_tracking=False,
            idle_timeout_secs=None,
            cancel_timeout_secs=TEARDOWN_S,
        )
        self.listening_in.connect(transport.input(), speech)
        runner = WorkerRunner(handle_sigint=False, check_dangling_tasks=False)
        await runner.add_workers(worker)
        if self.recording is not None:
            self.recording.begin()
        running = asyncio.create_task(runner.run(), name=f"pipeline-{self.call_id}")
        showing = asyncio.create_task(self._show(speech), name=f"screen-{self.call_id}")
        try:
            return await self._ending(running)
        finally:
            showing.cancel()
            await worker.cancel()
            await _finish(running, "pipeline")
            await asyncio.gather(showing, return_exceptions=True)

    async def _ending(self, running: "asyncio.Task[None]") -> str:
        endings: tuple[asyncio.Future[str], ...] = (self.leg.ended, self._hang_up, self._speech.failed)
        anything: set[asyncio.Future[Any]] = {running, *endings}
        done, _ = await asyncio.wait(anything, timeout=self._around.max_call_s, return_when=asyncio.FIRST_COMPLETED)
        if not done:
            return TOO_LONG
        for ending in endings:
            if ending in done:
                return ending.result()
        return "the media pipeline stopped"

    async def _show(self, speech: SpeechProcessor) -> None:
        """Passes events to turn-taking and to the caller's screen, in order."""
        while True:
            event = await self._to_screen.get()
            if isinstance(event, Speaking) and event.who == "bot":
                await speech.bot_speaks(event.on)
            for message in self._screen.again() if event is None else self._screen.messages(event):
                await speech.show(message)

    async def _wind_up(self, reason: str) -> None:
        """Frees all that the call holds; each part has a deadline, and a failure of one does not spare the others."""
        self._actions.stop()
        self.listening_in.close()
        if self.recording is not None:
            self.recording.end()
        await _finish(asyncio.create_task(self.leg.hang_up(reason)), "leg")
        await _finish(asyncio.create_task(self._speech.close()), "speech")
        await _finish(asyncio.create_task(self._actions.close(TEARDOWN_S - 1.0)), "actions")
        if self.recording is not None:
            await _finish(asyncio.create_task(self.recording.close()), "recording")
        self._change(CallState.ENDED, reason)
        await self._around.recorders.ended(self._recorder, self.call_id, TEARDOWN_S)
        log.info("call ended", extra={"call_id": self.call_id, "reason": impersonal(reason), "pii_reason": reason})

    def _change(self, state: CallState, reason: str = "") -> None:
        self.record = self.record.in_state(state, reason)
        self._recorder.call(self.record, resumable=reason in RESUMABLE)
        self._publish_outside(self.record)

    def _on_hold(self, hold: Hold) -> None:
        """Redis says that this call's conversation goes on elsewhere, or is about to."""
        if hold is not Hold.HELD:
            self.hang_up(MOVED)

    def _outcome(self, outcome: DialOutcome, sip_status: int) -> None:
        self.record = replace(self.record, outcome=outcome, sip_status=sip_status)
        if self.record.state is CallState.LIVE:
            self._change(CallState.LIVE)

    def _publish(self, event: Event) -> None:
        metrics.happened(self.leg.kind, event)
        self._to_screen.put_nowait(event)
        if not isinstance(event, INTERNAL):
            self._publish_outside(event)
        self._actions.take(event)
        if self._placed is not None:
            self._placed.take(event)

    def _record(self, entry: Entry) -> None:
        self._recorder.entry(entry)
        log.debug(
            "conversation",
            extra={"call_id": self.call_id, "role": entry.role.value, "turn": entry.turn, "pii_text": entry.text},
        )

    def _write_down(self, turn: int, pcm: bytes) -> None:
        transcriber = self._around.transcriber
        if transcriber is None or not self._persona.transcript:
            return
        if self.recording is not None and self.recording.paused:
            return  # a card number, say
        transcriber.submit(Words(pcm, self._persona.language, lambda text: self._wrote_down(turn, text)))

    def _wrote_down(self, turn: int, text: str) -> None:
        if self.record.state is CallState.LIVE:
            self._speech.wrote_down(turn, text)
            self._publish(CallerCaption(turn, text))

    def _key(self, digit: str) -> None:
        log.debug("key", extra={"call_id": self.call_id, "pii_digit": digit})
        self._publish_outside(Dtmf(digit))
        self._actions.key(digit)


async def _finish(task: "asyncio.Task[None]", what: str) -> None:
    _, late = await asyncio.wait({task}, timeout=TEARDOWN_S)
    if late:
        log.error("clean-up of a call took too long", extra={"part": what})
        task.cancel()
    for outcome in await asyncio.gather(task, return_exceptions=True):
        if isinstance(outcome, Exception):
            log.error("clean-up of a call failed", extra={"part": what}, exc_info=outcome)
