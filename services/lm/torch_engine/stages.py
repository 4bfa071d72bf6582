"""The stages of one answer at the engine, as spans: queue, prefill, decode. Pure but for telling of them at the end."""

from opentelemetry.context import Context

from services.common.telemetry import traces


class AnswerStages:
    """Takes steps as they come; times are of the monotonic clock, seconds.

    Args:
        parent: of the spans.
        asked: when the answer was asked for.
        length: tokens of the session then, the answer's head included.
    """

    def __init__(self, parent: Context, asked: float, length: int) -> None:
        self._parent = parent
        self._asked = asked
        self._length = length
        self._taken: float | None = None
        self._first: float | None = None

    def served(self, began: float, ended: float, length: int) -> None:
        """A step computed tokens of the session, which has so many by now."""
        if self._taken is None:
            self._taken = began
        if self._first is None and length > self._length:
            self._first = ended

    def tell(self, now: float, length: int) -> None:
        """The answer is over."""
        taken = now if self._taken is None else self._taken
        traces.tell("queue", self._parent, self._asked, taken)
        if self._taken is None:
            return
        first = now if self._first is None else self._first
        traces.tell("prefill", self._parent, taken, first)
        if self._first is not None:
            tokens = {"trunkline.lm.tokens": max(0, length - self._length)}
            traces.tell("decode", self._parent, first, now, tokens)
