"""What waits to be written down, bounded by its duration. Pure."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

BYTES_PER_S = 32_000  # 16-bit mono at 16 kHz


@dataclass(frozen=True)
class Words:
    """What a caller said in one turn.

    Attributes:
        pcm: 16-bit mono at 16 kHz.
        language: two letters, as the persona's.
        tell: takes the text.
    """

    pcm: bytes
    language: str
    tell: Callable[[str], None]

    @property
    def seconds(self) -> float:
        """How long they are."""
        return len(self.pcm) / BYTES_PER_S


class Backlog:
    """First in, first out; what would make it longer than `max_s` is not taken.

    Args:
        max_s: seconds of audio that may wait.
    """

    def __init__(self, max_s: float) -> None:
        self._max_s = max_s
        self._waiting: deque[Words] = deque()
        self.seconds = 0.0

    def put(self, words: Words) -> bool:
        """Takes the words, unless too much waits already."""
        if self.seconds + words.seconds > self._max_s:
            return False
        self._waiting.append(words)
        self.seconds += words.seconds
        return True

    def get(self) -> Words | None:
        """The next ones; None when nothing waits."""
        if not self._waiting:
            return None
        words = self._waiting.popleft()
        self.seconds = self.seconds - words.seconds if self._waiting else 0.0
        return words
