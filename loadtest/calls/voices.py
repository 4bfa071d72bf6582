"""What callers say, as packets, made once for all calls of a run."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import soxr
from av import AudioCodecContext, AudioFrame

from loadtest.scenario.questions import RATE, Question, Spoken, spoken
from loadtest.sip.talker import to_mu_law
from loadtest.sip.wire import PACKET
from loadtest.sip.wire import RATE as WIRE_RATE

OPUS_RATE = 48_000
OPUS_PACKET = OPUS_RATE // 50
BIT_RATE = 32_000


@dataclass(frozen=True)
class Words:
    """A question in 20 ms packets of each codec."""

    pcmu: tuple[bytes, ...]
    opus: tuple[bytes, ...]


@dataclass(frozen=True)
class Voices:
    """All questions.

    Attributes:
        silence: a packet of Opus.
    """

    words: dict[str, Words]
    silence: bytes

    @classmethod
    def load(cls, questions: Sequence[Question]) -> "Voices":
        """Reads and encodes recordings.

        Raises:
            QuestionsError: one cannot be used.
        """
        return cls(
            {question.name: _words(spoken(question)) for question in questions},
            opus(np.zeros(10 * OPUS_PACKET, np.float32))[-1],
        )


def _words(said: Spoken) -> Words:
    narrow = (soxr.resample(said.wave, RATE, WIRE_RATE) * 32767).clip(-32768, 32767).astype(np.int16)
    cut = len(narrow) // PACKET * PACKET
    pcmu = tuple(to_mu_law(narrow[start : start + PACKET]) for start in range(0, cut, PACKET))
    return Words(pcmu, tuple(opus(np.asarray(soxr.resample(said.wave, RATE, OPUS_RATE), np.float32))))


def opus(wave: "np.ndarray[tuple[int], np.dtype[np.float32]]") -> list[bytes]:
    """Opus packets of 20 ms of a 48 kHz wave (RFC 6716), mono, with forward error correction as browsers send it."""
    codec = AudioCodecContext.create("libopus", "w")
    codec.sample_rate, codec.layout, codec.format, codec.bit_rate = OPUS_RATE, "mono", "s16", BIT_RATE
    codec.options = {"application": "voip", "frame_duration": "20", "fec": "1", "packet_loss": "5"}
    pcm = (np.asarray(wave) * 32767).clip(-32768, 32767).astype(np.int16)
    packets = []
    for start in range(0, len(pcm), OPUS_PACKET):
        piece = np.zeros(OPUS_PACKET, np.int16)
        piece[: len(pcm) - start] = pcm[start : start + OPUS_PACKET]
        frame = AudioFrame.from_ndarray(piece[None, :], format="s16", layout="mono")
        frame.sample_rate = OPUS_RATE
        packets += [bytes(packet) for packet in codec.encode(frame)]
    return packets + [bytes(packet) for packet in codec.encode(None)]
