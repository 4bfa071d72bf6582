"""Speech to measure with: sentences in the voice that weights/nano knows, and their speech tokens."""

import functools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import soxr
from hibari import Hibari

from training import voices
from training.paths import REPLY_RATE, SPEECH_RATE, WEIGHTS

Waveform = npt.NDArray[np.float32]

SENTENCES = (
    "Hello, this is Mira from Harbour Parcel. How can I help you?",
    "We are open Monday to Friday from nine to five, and closed on Sunday.",
    "A small parcel costs four euros, a large one eleven.",
    "Your pick-up is on Thursday at ten thirty. Is that right?",
    "Of course, I am connecting you to a colleague.",
    "Thank you for calling. Goodbye.",
)
_PAUSE_S = 0.3
_HIBARI_RATE = 24_000


@dataclass(frozen=True)
class Spoken:
    """A recording at 22.05 kHz and its tokens."""

    text: str
    wave: Waveform
    codes: list[int]


@functools.cache
def sentences() -> list[Spoken]:
    """Each of `SENTENCES`, about 20 s in all."""
    voice = Hibari(threads=1)
    found = []
    for text in SENTENCES:
        said = np.asarray(voice(text, seed=1), np.float32)  # with a seed, the same each time
        wave = voices.trim(soxr.resample(said, _HIBARI_RATE, REPLY_RATE), REPLY_RATE)
        found.append(_spoken(text, wave * (voices.PEAK / float(np.abs(wave).max()))))
    return found


@functools.cache
def passage() -> Spoken:
    """All of them in one, with short pauses."""
    pause = np.zeros(int(_PAUSE_S * REPLY_RATE), np.float32)
    wave = np.concatenate([part for item in sentences() for part in (item.wave, pause)])
    return _spoken(" ".join(SENTENCES), wave)


def _spoken(text: str, wave: Waveform) -> Spoken:
    from services.tokenizer import weights
    from training.tokenizer.encode import encode_waves

    heard = soxr.resample(wave, REPLY_RATE, SPEECH_RATE).astype(np.float32)
    checkpoint = weights.load(WEIGHTS / "tokenizer", "cpu")
    return Spoken(text, wave, encode_waves(checkpoint, [heard])[0].tolist())
