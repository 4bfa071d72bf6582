"""When a caller's packets came: how many, how late, and how much of it was sound. Pure."""

from dataclasses import dataclass, field

LATE_S = 0.06  # a browser's jitter buffer holds about so much; what comes later is heard as a gap


@dataclass
class Hearing:
    """One caller's.

    Attributes:
        arrivals: (seconds when a packet came, seconds on its own clock, whether there was sound in it).
    """

    arrivals: list[tuple[float, float, bool]] = field(default_factory=list)

    def packet(self, at: float, on_its_clock: float, sound: bool) -> None:
        """A packet has come."""
        self.arrivals.append((at, on_its_clock, sound))

    def between(self, begin: float, end: float) -> "Hearing":
        """What came between two moments."""
        return Hearing([arrival for arrival in self.arrivals if begin <= arrival[0] < end])

    @property
    def sound_packets(self) -> int:
        """Packets with sound in them."""
        return sum(sound for _, _, sound in self.arrivals)

    def gaps_s(self) -> list[float]:
        """How much later than 20 ms after the one before it each packet of a run of sound came, seconds."""
        pairs = zip(self.arrivals, self.arrivals[1:], strict=False)
        return [max(0.0, after[0] - before[0] - 0.02) for before, after in pairs if before[2] and after[2]]

    @property
    def late_share(self) -> float:
        """Share of packets with sound that came `LATE_S` or more after they were due; 0 where there was no sound."""
        gaps = self.gaps_s()
        return sum(gap >= LATE_S for gap in gaps) / len(gaps) if gaps else 0.0
