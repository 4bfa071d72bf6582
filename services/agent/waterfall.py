"""Where the time of one turn went: milliseconds from the caller's end of speech to each stage.

An answer begun in a pause that turns out to be the turn's end has stages before `turn_decided`; the first packet never
is.
"""

STAGES = ("turn_decided", "last_tokens", "first_lm_token", "first_speech_token", "first_pcm", "first_packet")


class Waterfall:
    """Times of one turn. Each stage is marked once; later marks of the same stage are ignored.

    Args:
        turn: number of the turn in its call.
        speech_end: wall clock of the caller's end of speech, seconds; `begin` where it is known later only.
    """

    def __init__(self, turn: int, speech_end: float = 0.0) -> None:
        self.turn = turn
        self.speech_end = speech_end
        self._marks: dict[str, float] = {}

    def begin(self, speech_end: float) -> None:
        """The caller's end of speech is known now; stages may have been reached before."""
        self.speech_end = speech_end

    def mark(self, stage: str, now: float) -> None:
        """A stage of `STAGES` was reached at wall clock `now`."""
        if stage not in STAGES:
            raise ValueError(f"unknown stage {stage!r}; the stages are {', '.join(STAGES)}")
        self._marks.setdefault(stage, now)

    def reached(self) -> list[tuple[str, float]]:
        """Stages reached so far, as they came, with their wall clock."""
        found = [(stage, self._marks[stage]) for stage in STAGES if stage in self._marks]
        return sorted(found, key=lambda item: item[1])

    def milliseconds(self) -> dict[str, float]:
        """The same with milliseconds from the end of speech."""
        return {stage: round((at - self.speech_end) * 1000, 1) for stage, at in self.reached()}
