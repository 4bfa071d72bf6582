"""Who has the floor: a pure state machine fed with voice activity, time and verdicts of the end-of-turn model.

It holds no audio and calls nothing. Durations inside a turn are measured on the audio's own clock (windows of fixed
length), so a late packet or a busy machine does not shorten a pause; the times in events are the caller's wall clock.
"""

from dataclasses import dataclass, replace
from enum import Enum, auto


@dataclass(frozen=True)
class TurnSettings:
    """When a turn opens, when it may be over, and when it is over in any case. Durations in seconds of audio."""

    window_s: float = 0.032  # of the voice activity model: 512 samples at 16 kHz
    speech_confidence: float = 0.6  # a window at least this sure is speech
    hold_confidence: float = 0.35  # inside a turn a window this sure still is: word ends are soft
    open_s: float = 0.096  # speech that opens a turn while the bot is silent
    barge_in_s: float = 0.6  # speech that interrupts the bot: longer than nearly all "mm-hm"
    gap_s: float = 0.064  # a dip this short does not break a run of speech
    barge_in_gap_s: float = 0.8  # the same while the bot speaks: "stop ... stop!", and dents of the echo canceller
    min_speech_s: float = 0.16  # a turn with less speech was a click
    pause_s: float = 0.128  # silence after which the turn may be over: the answer is begun; 0: never before it is over
    ask_s: float = 0.2  # silence after which the end-of-turn model is asked
    ask_again_s: float = 0.4  # and asked again in the same pause
    max_silence_s: float = 1.4  # silence that ends a turn whatever the model says
    max_turn_s: float = 28.0  # the tokenizer takes utterances up to its own limit; stay below

    def __post_init__(self) -> None:
        if not 0 < self.hold_confidence <= self.speech_confidence <= 1:
            raise ValueError("0 < hold_confidence <= speech_confidence <= 1 must hold")
        if not 0 < self.ask_s < self.max_silence_s < self.max_turn_s:
            raise ValueError("0 < ask_s < max_silence_s < max_turn_s must hold")
        if not 0 <= self.pause_s < self.max_silence_s:
            raise ValueError("0 <= pause_s < max_silence_s must hold")
        if self.barge_in_s < self.open_s:
            raise ValueError("open_s <= barge_in_s must hold")


def for_persona(settings: TurnSettings, barge_in: bool | int) -> tuple[TurnSettings, bool]:
    """Settings and whether the caller may interrupt, for a persona's `barge_in`: yes, no, or milliseconds of speech."""
    if isinstance(barge_in, bool):
        return settings, barge_in
    return replace(settings, barge_in_s=barge_in / 1000), True


class EventKind(Enum):
    """What the machine reports."""

    OPENED = auto()  # the caller has the floor
    BARGED_IN = auto()  # the caller has the floor, taken from the bot
    BACK_CHANNEL = auto()  # the caller made a short sound while the bot spoke ("mm-hm", a laugh); the bot goes on
    PAUSED = auto()  # the turn may be over: an answer can be begun, and must not be heard
    RESUMED = auto()  # after PAUSED: it was not over, forget that answer
    ASK = auto()  # ask the end-of-turn model; answer with `verdict(event.ask_id, ...)`
    ENDED = auto()  # the turn is complete
    DROPPED = auto()  # it was no speech after all: forget the turn


@dataclass(frozen=True)
class TurnEvent:
    """One report.

    Attributes:
        at: wall clock when it was decided, seconds.
        run_s: OPENED, BARGED_IN: seconds of audio since the run of speech began (the pre-roll comes before it).
        speech_end: ENDED: wall clock of the end of the caller's last speech.
        ask_id: ASK: which question; an answer to an earlier one is ignored.
    """

    kind: EventKind
    at: float
    run_s: float = 0.0
    speech_end: float = 0.0
    ask_id: int = 0


class TurnMachine:
    """Follows one caller. Feed it every window of the caller's audio, in order.

    Between PAUSED and the turn's end (ENDED, DROPPED) there is either a RESUMED or nothing.
    """

    def __init__(self, settings: TurnSettings, may_barge_in: bool = True) -> None:
        self._settings = settings
        self._may_barge_in = may_barge_in
        self._bot_speaks = False
        self._open = False
        self._run_s = 0.0  # audio since a run of speech began, while no turn is open
        self._speech_s = 0.0  # speech inside the run or turn
        self._silence_s = 0.0
        self._turn_s = 0.0
        self._speech_end = 0.0
        self._last_window = 0.0
        self._next_ask_s = settings.ask_s
        self._ask_id = 0
        self._paused = False

    @property
    def is_open(self) -> bool:
        """The caller has the floor."""
        return self._open

    def bot_speaks(self, speaking: bool) -> None:
        """Tells that the bot started or stopped being audible."""
        self._bot_speaks = speaking

    def window(self, now: float, confidence: float) -> list[TurnEvent]:
        """One window of the caller's audio.

        Args:
            now: wall clock at the window's end, seconds.
            confidence: of the voice activity model, 0 to 1.
        """
        self._last_window = now
        if self._open:
            return self._inside(now, confidence >= self._settings.hold_confidence)
        return self._outside(now, confidence >= self._settings.speech_confidence)

    def idle(self, now: float) -> list[TurnEvent]:
        """No audio arrives: a line that has gone quiet ends a turn too. Call it a few times a second."""
        if self._open and now - self._last_window >= self._settings.max_silence_s:
            return [self._close(now)]
        return []

    def verdict(self, now: float, ask_id: int, complete: bool) -> list[TurnEvent]:
        """The end-of-turn model's answer to the ASK with this id; a stale one is ignored."""
        if self._open and complete and ask_id == self._ask_id and self._silence_s > 0:
            return [self._close(now)]
        return []

    def _outside(self, now: float, speech: bool) -> list[TurnEvent]:
        settings = self._settings
        if not speech:
            return self._outside_silence(now)
        self._run_s += self._silence_s + settings.window_s
        self._speech_s += settings.window_s
        self._silence_s = 0.0
        self._speech_end = now
        needed = settings.barge_in_s if self._bot_speaks else settings.open_s
        if self._speech_s < needed - 1e-9 or (self._bot_speaks and not self._may_barge_in):
            return []
        run_s = self._run_s
        self._open = True
        self._turn_s = run_s
        self._next_ask_s = settings.ask_s
        kind = EventKind.BARGED_IN if self._bot_speaks else EventKind.OPENED
        return [TurnEvent(kind, now, run_s=run_s)]

    def _outside_silence(self, now: float) -> list[TurnEvent]:
        if not self._run_s:
            return []
        settings = self._settings
        self._silence_s += settings.window_s
        if self._silence_s <= (settings.barge_in_gap_s if self._bot_speaks else settings.gap_s) + 1e-9:
            return []
        was_speech = self._speech_s >= settings.open_s - 1e-9
        self._forget_run()
        return [TurnEvent(EventKind.BACK_CHANNEL, now)] if was_speech and self._bot_speaks else []

    def _inside(self, now: float, speech: bool) -> list[TurnEvent]:
        settings = self._settings
        self._turn_s += settings.window_s
        if speech:
            resumed = [TurnEvent(EventKind.RESUMED, now)] if self._paused else []
            self._paused = False
            if self._silence_s:
                self._ask_id += 1  # an answer to a question about the pause before is stale now
                self._next_ask_s = settings.ask_s
            self._speech_s += settings.window_s
            self._silence_s = 0.0
            self._speech_end = now
            if self._turn_s >= settings.max_turn_s:
                return [*resumed, self._close(now)]
            return resumed
        self._silence_s += settings.window_s
        if self._silence_s >= settings.max_silence_s or self._turn_s >= settings.max_turn_s:
            return [self._close(now)]
        events = []
        if self._may_pause():
            self._paused = True
            events.append(TurnEvent(EventKind.PAUSED, now))
        if self._silence_s >= self._next_ask_s - 1e-9:
            self._next_ask_s = self._silence_s + settings.ask_again_s
            self._ask_id += 1
            events.append(TurnEvent(EventKind.ASK, now, ask_id=self._ask_id))
        return events

    def _may_pause(self) -> bool:
        settings = self._settings
        if self._paused or not settings.pause_s or self._speech_s < settings.min_speech_s - 1e-9:
            return False
        return self._silence_s >= settings.pause_s - 1e-9

    def _close(self, now: float) -> TurnEvent:
        enough = self._speech_s >= self._settings.min_speech_s - 1e-9
        event = TurnEvent(EventKind.ENDED if enough else EventKind.DROPPED, now, speech_end=self._speech_end)
        self._open = self._paused = False
        self._ask_id += 1
        self._forget_run()
        return event

    def _forget_run(self) -> None:
        self._run_s = self._speech_s = self._silence_s = self._turn_s = 0.0
