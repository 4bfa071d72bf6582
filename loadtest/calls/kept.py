"""What a caller heard, kept on disk from the end of a call until it is measured."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from loadtest.calls.ear import Codec, Ear


@dataclass(frozen=True)
class Heard:
    """One call's packets in the order in which they came.

    Attributes:
        arrived: monotonic seconds, (packets,).
        sequence, timestamp: of RTP, (packets,).
    """

    codec: Codec
    arrived: npt.NDArray[np.float64]
    sequence: npt.NDArray[np.int64]
    timestamp: npt.NDArray[np.int64]
    payload: tuple[bytes, ...]

    @classmethod
    def of(cls, ear: Ear) -> "Heard":
        """Of an ear that hears no more."""
        return cls(
            ear.codec,
            np.array(ear.arrived, np.float64),
            np.array(ear.sequence, np.int64),
            np.array(ear.timestamp, np.int64),
            tuple(ear.payload),
        )

    def save(self, path: Path) -> None:
        """Writes it."""
        lengths = np.array([len(payload) for payload in self.payload], np.int64)
        whole = np.frombuffer(b"".join(self.payload), np.uint8)
        with path.open("wb") as file:
            np.savez(
                file,
                codec=np.array(self.codec),
                arrived=self.arrived,
                sequence=self.sequence,
                timestamp=self.timestamp,
                lengths=lengths,
                whole=whole,
            )

    @classmethod
    def load(cls, path: Path) -> "Heard":
        """Reads what `save` wrote."""
        with np.load(path) as kept:
            ends = np.cumsum(kept["lengths"])
            whole = kept["whole"].tobytes()
            payload = tuple(
                whole[end - length : end] for end, length in zip(ends.tolist(), kept["lengths"].tolist(), strict=True)
            )
            codec: Codec = "opus" if str(kept["codec"]) == "opus" else "pcmu"
            return cls(codec, kept["arrived"], kept["sequence"], kept["timestamp"], payload)
