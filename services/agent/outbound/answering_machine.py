"""Who has answered a call that we placed: a pure state machine on voice activity and tones, on the line's own clock.

People say a word or two and wait; machines go on talking, and then beep. That is all that is judged: who answers with
one long sentence is taken for a machine, and a machine with a short one for a person.
"""

from dataclasses import dataclass
from enum import Enum, auto


@dataclass(frozen=True)
class CalleeSettings:
    """When it is decided. Durations in seconds of audio."""

    speech_confidence: float = 0.6  # a window at least this sure is speech
    hold_confidence: float = 0.35  # inside an utterance a window this sure still is: word ends are soft
    greet_after_s: float = 2.0  # of silence after the answer, then the bot speaks first
    word_s: float = 0.1  # less speech than this was a click
    hello_s: float = 1.4  # an utterance up to this long is a hello,
    hello_pause_s: float = 0.8  # and over after this pause;
    pause_s: float = 1.2  # a longer one after this: machines pause between their sentences
    machine_speech_s: float = 3.0  # an utterance this long is a machine's
    beep_s: float = 0.2
    longest_beep_s: float = 3.0  # a longer tone is no beep
    no_beep_s: float = 3.0  # of silence after a machine's words: it takes messages without a beep
    give_up_s: float = 45.0  # of a machine without an end

    def __post_init__(self) -> None:
        if not 0 < self.hold_confidence <= self.speech_confidence <= 1:
            raise ValueError("0 < hold_confidence <= speech_confidence <= 1 must hold")
        if not 0 < self.hello_pause_s <= self.pause_s < self.machine_speech_s < self.give_up_s:
            raise ValueError("0 < hello_pause_s <= pause_s < machine_speech_s < give_up_s must hold")
        if not 0 < self.beep_s < self.longest_beep_s:
            raise ValueError("0 < beep_s < longest_beep_s must hold")


class Verdict(Enum):
    """What the machine reports, each once at most."""

    PERSON = auto()  # has spoken and waits, or is silent: the bot's turn
    MACHINE = auto()
    RECORDING = auto()  # the machine listens now
    ENDLESS = auto()  # it never came to listen


class Callee:
    """Follows the far end from its answer on."""

    def __init__(self, settings: CalleeSettings) -> None:
        self._settings = settings
        self._is_machine = False
        self._decided = False
        self._speech_s = 0.0  # in the utterance
        self._utterance_s = 0.0  # from its first word, short pauses included
        self._silence_s = 0.0
        self._tone_s = 0.0
        self._machine_s = 0.0

    @property
    def decided(self) -> bool:
        """Nothing more will be reported."""
        return self._decided

    def window(self, seconds: float, confidence: float, tone: bool) -> Verdict | None:
        """One window of the callee's audio, in order.

        Args:
            seconds: its length.
            confidence: of the voice activity model, 0 to 1.
            tone: it holds a single steady tone.
        """
        if self._decided:
            return None
        settings = self._settings
        needed = settings.hold_confidence if self._utterance_s else settings.speech_confidence
        speech = confidence >= needed and not tone
        verdict = self._machine(seconds, speech, tone) if self._is_machine else self._first(seconds, speech, tone)
        if verdict is not None:
            self._decided = verdict is not Verdict.MACHINE
        return verdict

    def silence(self, seconds: float) -> Verdict | None:
        """No audio has come for so long."""
        return self.window(seconds, 0.0, tone=False)

    def _first(self, seconds: float, speech: bool, tone: bool) -> Verdict | None:
        settings = self._settings
        self._tone_s = self._tone_s + seconds if tone else 0.0
        if self._tone_s >= settings.beep_s - 1e-9:
            return self._found_machine()
        if speech:
            self._utterance_s += seconds + (self._silence_s if self._utterance_s else 0.0)
            self._speech_s += seconds
            self._silence_s = 0.0
            return self._found_machine() if self._utterance_s >= settings.machine_speech_s - 1e-9 else None
        self._silence_s += seconds
        if not self._utterance_s:
            return Verdict.PERSON if self._silence_s >= settings.greet_after_s - 1e-9 else None
        pause_s = settings.hello_pause_s if self._utterance_s <= settings.hello_s else settings.pause_s
        if self._silence_s < pause_s - 1e-9:
            return None
        if self._speech_s >= settings.word_s - 1e-9:
            return Verdict.PERSON
        self._speech_s = self._utterance_s = 0.0  # a click
        return None

    def _found_machine(self) -> Verdict:
        self._is_machine = True
        self._silence_s = 0.0
        return Verdict.MACHINE

    def _machine(self, seconds: float, speech: bool, tone: bool) -> Verdict | None:
        settings = self._settings
        self._machine_s += seconds
        if tone:
            self._tone_s += seconds
            self._silence_s = 0.0
            return None
        beep_s, self._tone_s = self._tone_s, 0.0
        self._silence_s = 0.0 if speech else self._silence_s + seconds
        if settings.beep_s - 1e-9 <= beep_s <= settings.longest_beep_s or self._silence_s >= settings.no_beep_s - 1e-9:
            return Verdict.RECORDING
        return Verdict.ENDLESS if self._machine_s >= settings.give_up_s else None
