"""The two things that hold the floor in a call: a turn of the caller, and an answer of the bot."""

import asyncio
import logging
import zlib
from collections.abc import Callable
from dataclasses import dataclass

from services.agent.events import Caption, Event, Speaking, TurnTimes
from services.agent.listening import Utterance
from services.agent.lm_session import LmSession
from services.agent.models import ModelServices
from services.agent.personas import Persona
from services.agent.player import Player
from services.agent.speaking import Speaker
from services.agent.waterfall import Waterfall
from trunkline.v1 import lm_pb2

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CallContext:
    """What everything that speaks or listens in one call needs.

    Attributes:
        publish: takes events for watchers.
        clock: wall clock of the call, seconds.
    """

    call_id: str
    persona: Persona
    models: ModelServices
    publish: Callable[[Event], None]
    clock: Callable[[], float]

    def seed(self, turn: int) -> int:
        """Of the random draws of a turn; the same call and turn give the same."""
        return zlib.crc32(f"{self.call_id}/{turn}".encode())

    def report_times(self, waterfall: Waterfall) -> None:
        """Publishes and logs a turn's waterfall as far as it got."""
        stages = waterfall.milliseconds()
        self.publish(TurnTimes(waterfall.turn, stages))
        log.info("turn", extra={"call_id": self.call_id, "turn": waterfall.turn, **stages})


class CallerTurn:
    """What the caller says in one turn, and how far it got."""

    utterance: Utterance

    def __init__(self, number: int, audio: bytearray, goes_on: bool) -> None:
        self.number = number
        self.audio = audio
        self.goes_on = goes_on  # it began with a turn that was not answered yet
        self.ended = asyncio.Event()
        self.waterfall = Waterfall(number, 0.0)
        self.start = 0  # ids in the conversation before it
        self.in_conversation = False
        self.answered = False  # something of an answer was heard, or there will be none
        self._session: LmSession | None = None
        self._appends: list[asyncio.Future[lm_pb2.ConverseResponse]] = []

    def attach(self, session: LmSession) -> None:
        """From now on codes go into this session at once, those so far included."""
        self._session, self._appends = session, []
        if self.utterance.codes:
            self.on_codes(self.utterance.codes)

    def on_codes(self, codes: list[int]) -> None:
        """Final codes of the utterance."""
        if self._session is not None:
            self._appends.append(self._session.append_speech(codes))

    async def close(self, session: LmSession) -> list[int]:
        """Closes the turn in the session; returns the exact ids of all of it."""
        ids: list[int] = []
        for future in [*self._appends, session.end_of_speech()]:
            ids += await session.appended(future)
        return ids


class AnswerInProgress:
    """An answer being made and played; the sink of its `Speaker`.

    Args:
        turn: the caller's turn that it answers; None for an announcement.
        number: of the turn that its captions belong to.
        session: positioned where the answer begins.
        on_pcm: called whenever there is more to hear.
    """

    def __init__(
        self, call: CallContext, turn: CallerTurn | None, number: int, session: LmSession, on_pcm: Callable[[], None]
    ) -> None:
        self._call = call
        self._on_pcm = on_pcm
        self.turn = turn
        self.number = number
        self.player = Player(call.models.limits.pcm_rate, call.clock, self._first_packet)
        self.speaker = Speaker(call.models, session, self, call.call_id, call.persona.voice, call.seed(number))

    def text(self, piece: str) -> None:
        """See `AnswerSink`."""
        self._call.publish(Caption(self.number, piece, is_final=False))

    def text_complete(self) -> None:
        """See `AnswerSink`."""
        self._call.publish(Caption(self.number, "", is_final=True))

    def stage(self, name: str) -> None:
        """See `AnswerSink`."""
        if self.turn is not None:
            self.turn.waterfall.mark(name, self._call.clock())

    def pcm(self, pcm: bytes, tokens_done: int) -> None:
        """See `AnswerSink`."""
        self.player.push(pcm, tokens_done)
        self._on_pcm()

    def _first_packet(self) -> None:
        self.stage("first_packet")
        self._call.publish(Speaking("bot", on=True))
        if self.turn is not None:
            self._call.report_times(self.turn.waterfall)
