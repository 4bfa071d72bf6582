"""A simulated caller over SIP: calls, waits for the greeting, asks recorded questions, and hears when answers begin."""

import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from loadtest.sip.talker import Talker, packets_of
from loadtest.sip.wire import caller

GREETING_S, ANSWER_S = 60.0, 20.0
SPOKEN_S = 0.1  # after the last packet of a question it is over


class CallRefusedError(Exception):
    """The call was not answered; the message holds the status."""


class NoAnswerError(Exception):
    """Nothing was heard in time."""


@dataclass(frozen=True)
class Recording:
    """A question as it is sent: 20 ms packets of mu-law, from its first to its last sound."""

    name: str
    packets: tuple[bytes, ...]

    @property
    def seconds(self) -> float:
        """Its length."""
        return 0.02 * len(self.packets)

    @classmethod
    def load(cls, path: Path) -> "Recording":
        """Reads a sound file of any rate."""
        wave, rate = soundfile.read(path, dtype="float32", always_2d=True)
        return cls(path.stem, tuple(packets_of(np.asarray(wave.mean(axis=1)), rate)))


@dataclass(frozen=True)
class Asked:
    """One question.

    Attributes:
        first_audio_s: from the last sound of the question to the first sound of the answer, at the caller's ear.
        answer_s: from there to the answer's last sound.
        overlapped: the bot was heard during the question, so what followed need not be its answer.
    """

    name: str
    first_audio_s: float
    answer_s: float
    overlapped: bool = False


class Phone:
    """One call. Made by `calling`."""

    def __init__(self, talker: Talker) -> None:
        self._talker = talker

    async def greeted(self) -> None:
        """Until the bot has greeted and is quiet."""
        try:
            await self._talker.hears(self._talker.answered_at, GREETING_S)
            await self._talker.bot_is_quiet(GREETING_S)
        except TimeoutError:
            raise NoAnswerError("no greeting was heard") from None

    async def ask(self, question: Recording, begins: Callable[[], None] = lambda: None) -> Asked:
        """Speaks, hears the answer to its end.

        Args:
            begins: called when the answer is first heard.

        Raises:
            NoAnswerError: nothing was heard within 20 s.
        """
        talker = self._talker
        before = time.monotonic()
        talker.say(list(question.packets))
        try:
            said = await talker.has_spoken(before, SPOKEN_S)
            first = await talker.hears(said, ANSWER_S)
            begins()
            await talker.bot_is_quiet(GREETING_S)
        except TimeoutError:
            raise NoAnswerError(f"no answer to {question.name} was heard") from None
        overlapped = any(before < at <= said for at in talker.loud_at)
        return Asked(question.name, first - said, talker.loud_at[-1] - first, overlapped)


@contextlib.asynccontextmanager
async def calling(host: str, port: int) -> AsyncIterator[Phone]:
    """A call that is answered; hung up at the end.

    Raises:
        CallRefusedError: it is not answered.
    """
    async with caller(port, host) as wire:
        talker = Talker(wire)
        try:
            final = await talker.call()
        except TimeoutError:
            raise CallRefusedError("no final response") from None
        if final is None or final.status != 200:
            raise CallRefusedError(final.first_line if final is not None else "nobody answers")
        try:
            yield Phone(talker)
        finally:
            with contextlib.suppress(TimeoutError):  # the far end is too busy to say that it heard the BYE
                await talker.hang_up()
