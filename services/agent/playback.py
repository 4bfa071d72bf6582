"""What the caller has heard: cuts a waveform into packets on the 20 ms clock and counts them. Pure, time is passed in.

Packets go out a small lead ahead of the clock, so that a stop is heard within a packet or so and the transport never
runs dry for want of one.
"""

from collections import deque
from dataclasses import dataclass

BYTES_PER_SAMPLE = 2


@dataclass(frozen=True)
class Heard:
    """How far into an answer the caller heard it.

    Attributes:
        samples: PCM samples at the output rate.
        tokens: speech tokens, rounded down.
    """

    samples: int
    tokens: int


class Playback:
    """One answer's waveform on its way to the caller.

    Args:
        rate: of the PCM, hertz.
        packet_ms: duration of a packet.
        lead_ms: how far packets may run ahead of the clock.
        refill_ms: more go out, up to the lead, once less than this is ahead; the lead, when not given.
    """

    def __init__(self, rate: int, packet_ms: int = 20, lead_ms: int = 60, refill_ms: int | None = None) -> None:
        if rate * packet_ms % 1000:
            raise ValueError(f"{packet_ms} ms at {rate} Hz is no whole number of samples")
        if lead_ms < packet_ms:
            raise ValueError(f"a lead of {lead_ms} ms is less than one packet of {packet_ms} ms")
        self.rate = rate
        self._packet_samples = rate * packet_ms // 1000
        self._lead_samples = rate * lead_ms // 1000
        self._refill_samples = rate * (lead_ms if refill_ms is None else refill_ms) // 1000
        self._pending = bytearray()
        self._pushed = 0  # samples handed to `push`
        self._marks: deque[tuple[int, int]] = deque()  # (samples pushed, tokens sounded by then)
        self._sent = 0  # samples handed out in packets, padding included
        self._anchor: float | None = None  # wall clock at which sample `_anchor_sample` is heard
        self._anchor_sample = 0
        self._complete = False
        self.gaps = 0  # silences because audio was not there in time
        self.gap_s = 0.0  # and their length

    @property
    def last_tokens(self) -> int:
        """Speech tokens sounded once everything pushed so far has been heard."""
        return self._marks[-1][1] if self._marks else 0

    def push(self, pcm: bytes, tokens_done: int) -> None:
        """Adds 16-bit PCM; once it has been heard, `tokens_done` speech tokens have been."""
        if self._complete:
            raise ValueError("the waveform was declared complete")
        self._pending += pcm
        self._pushed += len(pcm) // BYTES_PER_SAMPLE
        if self._marks and self._marks[-1][0] == self._pushed:
            self._marks.pop()
        self._marks.append((self._pushed, tokens_done))

    def complete(self) -> None:
        """No more PCM follows; the last packet is filled up with silence."""
        if not self._complete:
            self._complete = True
            packet_bytes = self._packet_samples * BYTES_PER_SAMPLE
            self._pending += bytes(-len(self._pending) % packet_bytes)

    def due(self, now: float) -> list[bytes]:
        """Packets to send now."""
        packet_bytes = self._packet_samples * BYTES_PER_SAMPLE
        if len(self._pending) >= packet_bytes and (self._anchor is None or self._heard_samples(now) >= self._sent):
            # The first packet, or the first after the well ran dry: the clock starts anew.
            if self._anchor is not None:
                self.gaps += 1
                self.gap_s += max(0.0, now - self._anchor - (self._sent - self._anchor_sample) / self.rate)
            self._anchor, self._anchor_sample = now, self._sent
        packets: list[bytes] = []
        if self._sent >= self._heard_samples(now) + self._refill_samples:
            return packets
        while len(self._pending) >= packet_bytes and self._sent < self._heard_samples(now) + self._lead_samples:
            packets.append(bytes(self._pending[:packet_bytes]))
            del self._pending[:packet_bytes]
            self._sent += self._packet_samples
        return packets

    def wait_s(self, now: float) -> float | None:
        """Seconds until a packet is due; None when only `push` or `complete` can make one due."""
        if len(self._pending) < self._packet_samples * BYTES_PER_SAMPLE:
            return None
        if self._anchor is None:
            return 0.0
        target = self._sent - self._refill_samples + 1 - self._anchor_sample
        return max(0.0, self._anchor + target / self.rate - now)

    def finished(self, now: float) -> bool:
        """Everything has been heard."""
        return self._complete and not self._pending and self._heard_samples(now) >= self._sent

    def remaining_s(self, now: float) -> float:
        """Seconds until what has gone out so far is heard."""
        return max(0.0, (self._sent - self._heard_samples(now)) / self.rate)

    def stop(self, now: float, unsent_s: float = 0.0) -> Heard:
        """Forgets what was not sent and tells what was heard; what is in the transport's hands counts as unheard.

        Args:
            unsent_s: what the transport knows to wait in its hands: its clock may be slower than ours.
        """
        heard = self.heard(now, unsent_s)
        self._pending.clear()
        self._complete = True
        return heard

    def heard(self, now: float, unsent_s: float = 0.0) -> Heard:
        """What was heard so far; see `stop`."""
        heard = max(0, min(self._heard_samples(now), self._sent - round(unsent_s * self.rate), self._pushed))
        return Heard(heard, self._tokens_at(heard))

    def _heard_samples(self, now: float) -> int:
        if self._anchor is None:
            return 0
        return max(0, min(self._sent, self._anchor_sample + int((now - self._anchor) * self.rate)))

    def _tokens_at(self, samples: int) -> int:
        before_samples, before_tokens = 0, 0
        for at, tokens in self._marks:
            if samples < at:
                share = (samples - before_samples) / (at - before_samples)
                return before_tokens + int(share * (tokens - before_tokens))
            before_samples, before_tokens = at, tokens
        return before_tokens
