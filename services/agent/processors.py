"""The pipecat processors between a leg's input and its output: echo, turn-taking, then speech."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from pipecat.frames.frames import (
    BotStartedSpeakingFrame,
    BotStoppedSpeakingFrame,
    CancelFrame,
    EndFrame,
    Frame,
    InputAudioRawFrame,
    InputDTMFFrame,
    OutputAudioRawFrame,
    OutputTransportMessageUrgentFrame,
    StartFrame,
    SystemFrame,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor

from services.agent.echo import EchoRemover, PlayedLine
from services.agent.legs.base import INPUT_RATE, OwnQueue
from services.agent.legs.hold import HoldFrame
from services.agent.player import Media
from services.agent.silence import SilenceAction, SilenceWatch
from services.agent.speech import Speech
from services.agent.turns import EventKind, TurnEvent, TurnMachine, TurnSettings
from services.agent.voice_activity import END_OF_TURN_BYTES, WINDOW_BYTES, WINDOW_SAMPLES, EndOfTurn, VoiceActivity

PRE_ROLL_S = 0.4  # audio before the first window that sounded like speech: soft first sounds
HISTORY_BYTES = 4 * INPUT_RATE * 2
IDLE_CHECK_S = 0.25
QUIET_S = 0.5  # silence is reported in pieces of this length
BYTES_PER_S = INPUT_RATE * 2


@dataclass
class CallerTurnStarted(SystemFrame):  # type: ignore[misc]  # pipecat is not followed by mypy
    """The caller has the floor; `audio` is their speech so far with a pre-roll."""

    audio: bytes = b""
    barged_in: bool = False


@dataclass
class CallerTurnAudio(SystemFrame):  # type: ignore[misc]
    """More of the turn's audio."""

    audio: bytes = b""


@dataclass
class CallerTurnPaused(SystemFrame):  # type: ignore[misc]
    """The turn may be over; `resumed` when it turns out that it was not."""

    resumed: bool = False


@dataclass
class CallerQuiet(SystemFrame):  # type: ignore[misc]
    """So many seconds of the caller's audio held no turn; `made_sound`: but a sign of life."""

    seconds: float = 0.0
    made_sound: bool = False


@dataclass
class CallerTurnEnded(SystemFrame):  # type: ignore[misc]
    """The turn is over; `dropped` when it was no speech. Times are of `time.monotonic`."""

    speech_end: float = 0.0
    decided: float = 0.0
    dropped: bool = False


class EchoProcessor(FrameProcessor):  # type: ignore[misc]
    """Takes the bot's voice out of the caller's audio before anyone listens to it."""

    def __init__(self, played: PlayedLine) -> None:
        super().__init__(enable_direct_mode=True)
        self._remover = EchoRemover(played)

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Takes audio; passes everything else on."""
        await super().process_frame(frame, direction)
        if isinstance(frame, InputAudioRawFrame):
            pcm = self._remover.remove(time.monotonic(), frame.audio)
            frame = InputAudioRawFrame(audio=pcm, sample_rate=INPUT_RATE, num_channels=1)
        await self.push_frame(frame, direction)


class TurnProcessor(FrameProcessor):  # type: ignore[misc]
    """Turns the caller's audio into turns. The audio itself goes no further."""

    def __init__(self, settings: TurnSettings, may_barge_in: bool, ears: VoiceActivity, end_of_turn: EndOfTurn) -> None:
        super().__init__(enable_direct_mode=True)  # without a queue and a task: frames come in order in any case
        self._machine = TurnMachine(settings, may_barge_in)
        self._ears = ears
        self._end_of_turn = end_of_turn
        self._pending = bytearray()  # less than a window
        self._history = bytearray()  # the latest audio, whole windows
        self._turn_audio = bytearray()  # what the end-of-turn model will hear
        self._quiet_s = 0.0  # not yet reported
        self._questions: set[asyncio.Task[None]] = set()
        self._idle_task: asyncio.Task[None] | None = None

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Takes audio, and the bot's state from downstream; passes everything else on."""
        await super().process_frame(frame, direction)
        if isinstance(frame, InputAudioRawFrame):
            await self._hear(frame.audio)
            return
        if isinstance(frame, BotStartedSpeakingFrame):
            self._machine.bot_speaks(True)
        elif isinstance(frame, BotStoppedSpeakingFrame):
            self._machine.bot_speaks(False)
        elif isinstance(frame, StartFrame):
            self._idle_task = self.create_task(self._watch_idle())
        elif isinstance(frame, EndFrame | CancelFrame):
            await self._stop_tasks()
        await self.push_frame(frame, direction)

    async def cleanup(self) -> None:
        """Frees what the processor holds."""
        await self._stop_tasks()
        await super().cleanup()

    async def _stop_tasks(self) -> None:
        idle, self._idle_task = self._idle_task, None
        if idle is not None:
            await self.cancel_task(idle)
        for question in tuple(self._questions):
            await self.cancel_task(question)

    async def _hear(self, audio: bytes) -> None:
        self._pending += audio
        while len(self._pending) >= WINDOW_BYTES:
            window = bytes(self._pending[:WINDOW_BYTES])
            del self._pending[:WINDOW_BYTES]
            self._history += window
            del self._history[:-HISTORY_BYTES]
            confidence = await self._ears.hear(window)
            was_open = self._machine.is_open
            events = self._machine.window(time.monotonic(), confidence)
            if was_open:
                self._turn_audio += window
                del self._turn_audio[:-END_OF_TURN_BYTES]
                await self.push_frame(CallerTurnAudio(audio=window))
            await self._report(events)
            await self._count_quiet()

    async def _report(self, events: list[TurnEvent]) -> None:
        for event in events:
            if event.kind in (EventKind.OPENED, EventKind.BARGED_IN):
                began = int((event.run_s + PRE_ROLL_S) * BYTES_PER_S) // 2 * 2
                self._turn_audio = self._history[-began:]
                barged_in = event.kind is EventKind.BARGED_IN
                await self.push_frame(CallerTurnStarted(audio=bytes(self._turn_audio), barged_in=barged_in))
            elif event.kind is EventKind.ASK:
                question = self.create_task(self._ask(event.ask_id, bytes(self._turn_audio)))
                self._questions.add(question)
                question.add_done_callback(self._questions.discard)
            elif event.kind in (EventKind.PAUSED, EventKind.RESUMED):
                await self.push_frame(CallerTurnPaused(resumed=event.kind is EventKind.RESUMED))
            elif event.kind is EventKind.BACK_CHANNEL:
                await self.push_frame(CallerQuiet(made_sound=True))
            else:
                dropped = event.kind is EventKind.DROPPED
                await self.push_frame(CallerTurnEnded(speech_end=event.speech_end, decided=event.at, dropped=dropped))

    async def _count_quiet(self) -> None:
        self._quiet_s = 0.0 if self._machine.is_open else self._quiet_s + WINDOW_SAMPLES / INPUT_RATE
        if self._quiet_s >= QUIET_S:
            await self.push_frame(CallerQuiet(seconds=self._quiet_s))
            self._quiet_s = 0.0

    async def _ask(self, ask_id: int, audio: bytes) -> None:
        complete = await self._end_of_turn.complete(audio)
        await self._report(self._machine.verdict(time.monotonic(), ask_id, complete))

    async def _watch_idle(self) -> None:
        while True:
            await asyncio.sleep(IDLE_CHECK_S)
            await self._report(self._machine.idle(time.monotonic()))


class SpeechProcessor(FrameProcessor):  # type: ignore[misc]
    """Joins a call's speech to its pipeline: turns in, packets and messages out.

    Args:
        output_rate: of the packets' PCM, hertz.
        on_key: takes the keys that the caller presses.
        connect: takes the way out for packets once they can flow.
        silence: what to do about a caller who says nothing.
        on_silence: called when such a call is to end.
        played: told what is sent, and what of it was dropped; None: nobody wants to know.
        queue: of the leg.
    """

    def __init__(
        self,
        speech: Speech,
        output_rate: int,
        on_key: Callable[[str], None],
        connect: Callable[[Media], None],
        silence: SilenceWatch,
        on_silence: Callable[[], None],
        played: PlayedLine | None,
        queue: OwnQueue | None,
    ) -> None:
        super().__init__()
        self._queue = queue
        self._speech = speech
        self._output_rate = output_rate
        self._on_key = on_key
        self._connect = connect
        self._line_open = asyncio.Event()  # clear while one side holds the call
        self._line_open.set()
        self._silence = silence
        self._on_silence = on_silence
        self._played = played

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Acts on turns; passes everything else on."""
        await super().process_frame(frame, direction)
        if isinstance(frame, CallerTurnStarted):
            if self._speech.interrupt() or (frame.barged_in and self._speech.may_be_interrupted):
                await self.broadcast_interruption()
                if self._played is not None:
                    self._played.drop_unheard(time.monotonic())
            self._silence.caller_made_sound()
            self._speech.caller_started(frame.audio)
        elif isinstance(frame, CallerTurnAudio):
            self._speech.caller_audio(frame.audio)
        elif isinstance(frame, CallerTurnPaused):
            if frame.resumed:
                self._speech.caller_resumed()
            else:
                self._speech.caller_paused()
        elif isinstance(frame, CallerQuiet):
            self._be_patient(frame)
        elif isinstance(frame, CallerTurnEnded):
            if frame.dropped:
                self._speech.caller_dropped()
            else:
                self._speech.caller_ended(frame.speech_end, frame.decided)
        elif isinstance(frame, InputDTMFFrame):
            self._on_key(str(frame.button.value))
        elif isinstance(frame, HoldFrame):
            (self._line_open.clear if frame.held else self._line_open.set)()
        else:
            await self.push_frame(frame, direction)
            if isinstance(frame, StartFrame):
                self._connect(Media(self._output_rate, self._send, self._queue))

    async def bot_speaks(self, speaking: bool) -> None:
        """Tells turn-taking upstream that the bot started or stopped being audible."""
        frame = BotStartedSpeakingFrame() if speaking else BotStoppedSpeakingFrame()
        await self.push_frame(frame, FrameDirection.UPSTREAM)

    async def show(self, message: dict[str, object]) -> None:
        """Sends a message to the caller's screen, where there is one."""
        await self.push_frame(OutputTransportMessageUrgentFrame(message=message))

    def _be_patient(self, frame: CallerQuiet) -> None:
        if frame.made_sound:
            self._silence.caller_made_sound()
            return
        step = self._silence.quiet(frame.seconds, self._speech.floor_is_free)
        if step is None:
            return
        if step.action is SilenceAction.HANG_UP:
            self._on_silence()
        else:
            self._speech.say(step.text)

    async def _send(self, packet: bytes) -> None:
        await self._line_open.wait()  # the player stands still with it, and goes on where it stopped
        if self._played is not None:
            unsent_s = self._queue.unsent_s() if self._queue is not None else 0.0
            self._played.packet(time.monotonic(), packet, self._output_rate, unsent_s)
        await self.push_frame(OutputAudioRawFrame(audio=packet, sample_rate=self._output_rate, num_channels=1))
