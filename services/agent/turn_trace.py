"""One trace for each turn of the caller: what came when, as spans. Made of the turn's waterfall and of nothing else."""

from collections.abc import Callable

from services.agent.waterfall import Waterfall
from services.common.telemetry import traces


class TurnTrace:
    """The trace of a turn, from the caller's first word to the end of the answer.

    Args:
        clock: that of the call, seconds.
    """

    def __init__(self, call_id: str, turn: int, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._began = clock()
        self.span = traces.begin("turn", attributes={"trunkline.call.id": call_id, "trunkline.turn.number": turn})

    def stages(self, waterfall: Waterfall) -> None:
        """The stages that the turn has gone through, each from the one before it."""
        if not self.span.is_recording():
            return
        parent = traces.under(self.span)
        traces.tell("caller_speech", parent, self._began, waterfall.speech_end, clock=self._clock)
        before = waterfall.speech_end
        for stage, at in waterfall.reached():
            traces.tell(stage, parent, before, at, clock=self._clock)
            before = at

    def over(self, outcome: str) -> None:
        """The turn is over; what was said first counts.

        Args:
            outcome: `answered`, `interrupted`, `failed`, `continued` (the next turn takes it up), `dropped` (it was no
                speech) or `call ended`.
        """
        if self.span.is_recording():
            self.span.set_attribute("trunkline.turn.outcome", outcome)
            self.span.end()
