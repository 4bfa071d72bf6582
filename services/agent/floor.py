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
from services.agent.replicas.places import Reservation
from services.agent.speaking import AnswerSink, Speaker
from services.agent.turn_trace import TurnTrace
from services.agent.waterfall import Waterfall
from services.agent.watermark.code import Code
from services.common.telemetry import traces
from trunkline.v1 import lm_pb2

log = logging.getLogger(__name__)


def seed_of(call_id: str, turn: int) -> int:
    """Of the random draws of a turn; the same call and turn give the same."""
    return zlib.crc32(f"{call_id}/{turn}".encode())


@dataclass(frozen=True)
class CallContext:
    """What everything that speaks or listens in one call needs.

    Attributes:
        places: of the call, on the three stages.
        publish: takes events for watchers.
        clock: wall clock of the call, seconds.
        mark: the watermark of what the bot says; None for none.
    """

    call_id: str
    persona: Persona
    models: ModelServices
    places: Reservation
    publish: Callable[[Event], None]
    clock: Callable[[], float]
    mark: Code | None = None

    def seed(self, turn: int) -> int:
        """See `seed_of`."""
        return seed_of(self.call_id, turn)

    def report_times(self, turn: "CallerTurn") -> None:
        """Publishes, logs and traces a turn's waterfall as far as it got."""
        stages = turn.waterfall.milliseconds()
        self.publish(TurnTimes(turn.number, stages))
        turn.trace.stages(turn.waterfall)
        log.info("turn", extra={"call_id": self.call_id, "turn": turn.number, **stages})


class CallerTurn:
    """What the caller says in one turn, and how far it got."""

    utterance: Utterance

    def __init__(self, number: int, audio: bytearray, carried: int, trace: TurnTrace) -> None:
        self.number = number
        self.trace = trace
        self.audio = audio
        self.carried = carried  # bytes of the audio that are of a turn before it which was not answered yet
        self.may_be_over = asyncio.Event()  # an answer can be begun; set with `ended`, and before it in a pause
        self.ended = asyncio.Event()  # for good: the answer can be heard
        self.waterfall = Waterfall(number)
        self.start = 0  # ids in the conversation before it
        self.ids: list[int] = []  # of all of it, once they are known
        self.in_conversation = False
        self.answered = False  # something of an answer was heard, or there will be none
        self._session: LmSession | None = None
        self._appends: list[asyncio.Future[lm_pb2.ConverseResponse]] = []

    @property
    def goes_on(self) -> bool:
        """It began with a turn that was not answered yet."""
        return self.carried > 0

    def attach(self, session: LmSession) -> None:
        """From now on codes go into this session at once, those so far included."""
        self._session, self._appends = session, []
        if self.utterance.codes:
            self.on_codes(self.utterance.codes)

    def on_codes(self, codes: list[int]) -> None:
        """Final codes of the utterance."""
        if self._session is not None:
            self._appends.append(self._session.append_speech(codes))

    async def close(self, session: LmSession) -> None:
        """Closes the turn in the session; `ids` are the exact ids of all of it then."""
        ids: list[int] = []
        for future in [*self._appends, session.end_of_speech()]:
            ids += await session.appended(future)
        self.ids = ids

    def go_on(self) -> None:
        """It was not over: what was made of its supposed end is forgotten, its audio and standing codes stay."""
        self.may_be_over.clear()
        self.waterfall = Waterfall(self.number)
        self.ids = []
        self._session = None  # the codes go into it again when it has been rewound
        with traces.within(self.trace.span):
            self.utterance = self.utterance.going_on(bytes(self.audio))


class UntilDecided:
    """Holds back an answer's text while its turn may still go on; what is thrown away then was told to nobody."""

    def __init__(self, sink: AnswerSink, decided: bool) -> None:
        self._sink = sink
        self._decided = decided
        self._held: list[Callable[[], None]] = []

    def decide(self) -> None:
        """The turn is over: what was held goes on, and so does what follows."""
        self._decided = True
        held, self._held = self._held, []
        for tell in held:
            tell()

    def text(self, piece: str) -> None:
        """See `AnswerSink`."""
        self._tell(lambda: self._sink.text(piece))

    def text_complete(self) -> None:
        """See `AnswerSink`."""
        self._tell(self._sink.text_complete)

    def stage(self, name: str) -> None:
        """See `AnswerSink`. Times are of no consequence outside, and are taken when they are."""
        self._sink.stage(name)

    def pcm(self, pcm: bytes, tokens_done: int) -> None:
        """See `AnswerSink`. It is the player that waits."""
        self._sink.pcm(pcm, tokens_done)

    def _tell(self, tell: Callable[[], None]) -> None:
        if self._decided:
            tell()
        else:
            self._held.append(tell)


class AnswerInProgress:
    """An answer being made and played; the sink of its `Speaker`.

    Args:
        turn: the caller's turn that it answers; None for an announcement.
        number: of the turn that its captions belong to.
        session: positioned where the answer begins.
        on_pcm: called whenever there is more to hear.
        count: of the call's answers and announcements, this one included.
    """

    def __init__(
        self,
        call: CallContext,
        turn: CallerTurn | None,
        number: int,
        session: LmSession,
        on_pcm: Callable[[], None],
        count: int,
    ) -> None:
        self._call = call
        self._on_pcm = on_pcm
        self.turn = turn
        self.number = number
        self.count = count
        self._waterfall = turn.waterfall if turn is not None else None
        self.player = Player(call.models.limits.pcm_rate, call.clock, self._first_packet, call.mark)
        self._until_decided = UntilDecided(self, decided=turn is None or turn.ended.is_set())
        self.speaker = Speaker(
            call.places.decoder,
            call.models.limits.block_sizes,
            session,
            self._until_decided,
            call.call_id,
            call.persona.voice,
            call.seed(number),
        )

    def decided(self) -> None:
        """The turn is over for good: the answer's text may be told. Idempotent."""
        self._until_decided.decide()

    def text(self, piece: str) -> None:
        """See `AnswerSink`."""
        self._call.publish(Caption(self.number, piece, is_final=False))

    def text_complete(self) -> None:
        """See `AnswerSink`."""
        self._call.publish(Caption(self.number, "", is_final=True))

    def stage(self, name: str) -> None:
        """See `AnswerSink`."""
        if self._waterfall is not None:
            self._waterfall.mark(name, self._call.clock())

    def pcm(self, pcm: bytes, tokens_done: int) -> None:
        """See `AnswerSink`."""
        self.player.push(pcm, tokens_done)
        self._on_pcm()

    def _first_packet(self) -> None:
        self.stage("first_packet")
        self._call.publish(Speaking("bot", on=True))
        if self.turn is not None:
            self._call.report_times(self.turn)
