"""A jitter buffer for a listener that is a machine. Pure: packets and time in, steps of a decoder out.

A person needs an even flow, so a jitter buffer for people delays everything by the worst jitter it expects. Our
listener takes audio at any pace. So each packet in order is passed on at once, and delay exists only while something is
missing:

- a gap with later packets behind it waits for stragglers, as long as stragglers lately took; then it is concealed, by
  the following packet's forward error correction where it has any, and what came later follows at once;
- when nothing arrives at all, concealment goes out on the clock, so that a pause is a pause for turn-taking too. If the
  packets were only late, they are still passed on: no word is lost, and the output is longer than the stream for a
  while. `owed` says by how much; whoever shortens the audio reports it with `repaid`.
"""

from collections import deque
from dataclasses import dataclass, field
from enum import Enum, auto

TICKS_PER_S = 48_000  # the RTP clock of Opus (RFC 7587 section 4.1)
REMEMBERED = 64  # packets whose arrival is kept in mind


@dataclass(frozen=True)
class JitterSettings:
    """Seconds, all of them.

    Attributes:
        least_wait: for a straggler, whatever was seen lately.
        most_wait: for a straggler.
        memory: how long a straggler's lateness is kept in mind.
        fill_after: silence on the line after which concealment begins to flow.
        fill_most: how much of it flows at most; then the output rests too.
        frame: length of one piece of concealment.
        jump: a step in the stream's timestamps that is a new beginning and no loss.
    """

    least_wait: float = 0.02
    most_wait: float = 0.1
    memory: float = 2.0
    fill_after: float = 0.2
    fill_most: float = 0.4
    frame: float = 0.02
    jump: float = 2.0

    def __post_init__(self) -> None:
        if not 0 < self.least_wait <= self.most_wait < self.fill_after:
            raise ValueError("0 < least_wait <= most_wait < fill_after must hold")
        if not 0 < self.frame <= self.fill_most < self.jump or self.memory <= 0:
            raise ValueError("0 < frame <= fill_most < jump and 0 < memory must hold")


class Kind(Enum):
    """What the decoder is to do."""

    DECODE = auto()  # the payload
    RECOVER = auto()  # what is missing right before the payload, from the payload
    CONCEAL = auto()  # something in place of what is missing
    RESET = auto()  # forget the past: another stream begins


@dataclass(frozen=True)
class Step:
    """One order to the decoder; it yields `ticks` of audio."""

    kind: Kind
    ticks: int = 0
    payload: bytes = b""


@dataclass
class JitterCounts:
    """What happened so far.

    Attributes:
        received: packets that came, duplicates among them.
        lost: packets that were given up on, those that came too late among them.
        late: packets that came too late or twice.
        concealed: ticks of audio that stand for missing ones.
        jitter: of the packets' arrival, seconds (RFC 3550 section 6.4.1).
    """

    received: int = 0
    lost: int = 0
    late: int = 0
    concealed: int = 0
    jitter: float = 0.0


@dataclass
class _Packet:
    sequence: int
    timestamp: int
    ticks: int
    payload: bytes
    at: float


@dataclass
class JitterBuffer:
    """One stream. `put` packets as they come; `poll` after each, and at `wake_at`."""

    settings: JitterSettings = field(default_factory=JitterSettings)
    counts: JitterCounts = field(default_factory=JitterCounts)

    def __post_init__(self) -> None:
        self.owed = 0  # ticks that the output is longer than the stream
        self._held: dict[int, _Packet] = {}
        self._arrivals: deque[tuple[int, float]] = deque(maxlen=REMEMBERED)  # (timestamp, when)
        self._stragglers: deque[tuple[float, float]] = deque()  # (when, how late)
        self._newest: _Packet | None = None
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._held.clear()
        self._arrivals.clear()
        self._newest = None
        self._next: int | None = None  # timestamp that the output has reached
        self._last_sequence: int | None = None
        self._filled = 0  # ticks of concealment since then, on the clock
        self._fill_at = 0.0
        self._reset = True

    def restart(self) -> None:
        """Another stream begins (its SSRC differs)."""
        self._begin_anew()

    def put(self, sequence: int, timestamp: int, ticks: int, payload: bytes, now: float) -> None:
        """Takes a packet.

        Args:
            sequence: of RTP, 16 bits.
            timestamp: of RTP, 32 bits.
            ticks: its duration.
            payload: it is handed to the decoder as it is.
            now: when it came, seconds on any steady clock.
        """
        self.counts.received += 1
        newest = self._newest
        if newest is not None:
            timestamp = _unwrapped(timestamp, newest.timestamp, 32)
            sequence = _unwrapped(sequence, newest.sequence, 16)
            if abs(timestamp - newest.timestamp) > self.settings.jump * TICKS_PER_S:
                self._begin_anew()
                newest = None
        if self._arrivals:
            before, came = self._arrivals[-1]
            difference = abs((now - came) - (timestamp - before) / TICKS_PER_S)
            self.counts.jitter += (difference - self.counts.jitter) / 16
        packet = _Packet(sequence, timestamp, ticks, payload, now)
        if newest is None or timestamp > newest.timestamp:
            self._newest = packet
        else:
            overtaken = min((at for later, at in self._arrivals if later > timestamp), default=now)
            self._stragglers.append((now, now - overtaken))
        self._arrivals.append((timestamp, now))
        if self._next is None:
            self._next, self._last_sequence = timestamp, sequence - 1
        if timestamp < self._next:
            self.counts.late += 1
            return
        self._held.setdefault(timestamp, packet)

    def repaid(self, ticks: int) -> None:
        """So much of what was owed has been taken out of the audio."""
        self.owed = max(0, self.owed - ticks)

    def wait(self, now: float) -> float:
        """How long a gap waits for stragglers now, seconds."""
        while self._stragglers and self._stragglers[0][0] < now - self.settings.memory:
            self._stragglers.popleft()
        worst = max((late for _, late in self._stragglers), default=0.0)
        return min(max(self.settings.least_wait, 1.25 * worst), self.settings.most_wait)

    def wake_at(self, now: float) -> float | None:
        """When `poll` has something to do though no packet comes; None: never."""
        if self._next is None:
            return None
        if self._held:
            return min(packet.at for packet in self._held.values()) + self.wait(now)
        return self._fill_at if self._may_fill() else None

    def poll(self, now: float) -> list[Step]:
        """What the decoder is to do now, in order."""
        steps: list[Step] = []
        while self._held:
            packet = self._held[min(self._held)]
            assert self._next is not None
            gap = packet.timestamp - self._next
            in_order = self._last_sequence is not None and packet.sequence == self._last_sequence + 1
            if gap > 0 and not in_order and now < min(p.at for p in self._held.values()) + self.wait(now):
                break
            del self._held[packet.timestamp]
            steps += self._pass_on(packet, gap, in_order)
            self._fill_at = now + self.settings.fill_after
        if not self._held and self._next is not None and now >= self._fill_at and self._may_fill():
            steps.append(self._fill(now))
        return steps

    def _pass_on(self, packet: _Packet, gap: int, in_order: bool) -> list[Step]:
        steps = []
        if self._reset:
            self._reset = False
            steps.append(Step(Kind.RESET))
        missing = gap - self._filled
        if missing < 0:
            self.owed -= missing
        if not in_order and self._last_sequence is not None:
            self.counts.lost += max(0, packet.sequence - self._last_sequence - 1)
        frame = int(self.settings.frame * TICKS_PER_S)
        self.counts.concealed += max(0, missing)
        while missing > packet.ticks:
            piece = min(frame, missing - packet.ticks)
            steps.append(Step(Kind.CONCEAL, piece))
            missing -= piece
        if missing > 0 and in_order:  # the sender was silent (DTX): nothing was lost
            steps.append(Step(Kind.CONCEAL, missing))
        elif missing > 0:
            steps.append(Step(Kind.RECOVER, missing, packet.payload))
        steps.append(Step(Kind.DECODE, packet.ticks, packet.payload))
        self._next, self._last_sequence = packet.timestamp + packet.ticks, packet.sequence
        self._filled = 0
        return steps

    def _may_fill(self) -> bool:
        return self._filled < self.settings.fill_most * TICKS_PER_S

    def _fill(self, now: float) -> Step:
        """One piece a call: when we ourselves were held up, the packets are in our own queues and not missing."""
        ticks = int(self.settings.frame * TICKS_PER_S)
        self._filled += ticks
        self.counts.concealed += ticks
        held_up = now - self._fill_at > self.settings.frame
        self._fill_at = (now if held_up else self._fill_at) + self.settings.frame
        return Step(Kind.CONCEAL, ticks)


def _unwrapped(value: int, near: int, bits: int) -> int:
    """The number that ends with these bits and is nearest to `near`."""
    size = 1 << bits
    delta = (value - near) % size
    return near + (delta - size if delta >= size // 2 else delta)
